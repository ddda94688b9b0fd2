"""The certificate of a database's server is made once, and is one that a client takes."""

import ssl
import time
from pathlib import Path

import pytest

from sheepdog.client.link.https import pinned
from sheepdog.server.certificate import ensure_certificate, make_certificate
from sheepdog.storage import Storage
from tests.faults import fault


def test_it_is_made_once(tmp_path: Path) -> None:
    with Storage(tmp_path / "db") as storage:
        storage.initdb()
        ensure_certificate(storage)
        first = storage.get_setting("certificate"), storage.get_setting("key")
        ensure_certificate(storage)
        assert (storage.get_setting("certificate"), storage.get_setting("key")) == first


def test_who_trusts_it_shakes_hands_and_who_trusts_another_does_not(tmp_path: Path) -> None:
    certificate, key = make_certificate()
    (tmp_path / "both").write_text(certificate + key)
    assert shake_hands(tmp_path / "both", certificate) is None
    error = shake_hands(tmp_path / "both", make_certificate()[0])
    assert isinstance(error, ssl.SSLCertVerificationError)


@fault("clock jumps", "a node whose clock is years off", promise="its workers reach the server")
@pytest.mark.parametrize("days", [-10000, 30])
def test_a_worker_whose_clock_is_wrong_trusts_it_all_the_same(tmp_path: Path, days: int) -> None:
    """It is the certificate that is known, whatever its dates."""
    certificate, key = make_certificate(time.time() + 86400 * days)
    (tmp_path / "both").write_text(certificate + key)
    assert shake_hands(tmp_path / "both", certificate, pinned(certificate)) is None
    assert "certificate" in str(shake_hands(tmp_path / "both", certificate))
    other = make_certificate()[0]
    assert isinstance(shake_hands(tmp_path / "both", other, pinned(other)), ssl.SSLCertVerificationError)


def shake_hands(both: Path, trusted: str, context: ssl.SSLContext | None = None) -> ssl.SSLError | None:
    """Let a client and a server shake hands in memory; return why the client does not."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(both)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        (context or ssl.create_default_context(cadata=trusted)).wrap_bio(back, there, server_hostname="sheepdog"),
        serving.wrap_bio(there, back, server_side=True),
    ]
    for end in ends * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            return error
    assert ends[0].version() == "TLSv1.3"
    return None
