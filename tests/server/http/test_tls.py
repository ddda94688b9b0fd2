"""TLS of the server."""

import ssl
from typing import Any

import pytest

from tests.wire import Wire


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(wire: Wire) -> None:
    def version(version: ssl.TLSVersion) -> Any:
        wire.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        wire.context.check_hostname = False
        wire.context.verify_mode = ssl.CERT_NONE
        wire.context.set_ciphers("ALL:@SECLEVEL=0")  # or this end refuses, not the server
        wire.context.minimum_version = wire.context.maximum_version = version
        return wire.connect().version()  # type: ignore[attr-defined]

    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises(OSError):
            version(old)
    assert version(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
