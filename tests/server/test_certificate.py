"""The certificate of a database's server is made once, and is one that a client takes."""

import ssl
from pathlib import Path

from sheepdog.server.certificate import ensure_certificate, make_certificate
from sheepdog.storage import Storage


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


def shake_hands(both: Path, trusted: str) -> ssl.SSLError | None:
    """Let a client and a server shake hands in memory; return why the client does not."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(both)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        ssl.create_default_context(cadata=trusted).wrap_bio(back, there, server_hostname="sheepdog"),
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
