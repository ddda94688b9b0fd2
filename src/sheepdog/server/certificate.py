"""The certificate of a database's server: self-signed, made once, and pinned by its workers."""

from __future__ import annotations

from ..storage import Storage


def ensure_certificate(storage: Storage) -> None:
    """Make the database's certificate, unless it has one. Who makes it at the same time does no harm: one stays."""
    if storage.get_setting("certificate") is None:
        certificate, key = make_certificate()
        storage.set_settings_once(certificate=certificate, key=key)


def make_certificate(made: float | None = None) -> tuple[str, str]:
    """Return a self-signed certificate and its key, in PEM. Workers trust this one and no other.

    made is the Unix time that it is said to have been made, if that is not now.
    """
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sheepdog")])
    now = datetime.datetime.now(datetime.UTC) if made is None else datetime.datetime.fromtimestamp(made, datetime.UTC)
    public = key.public_key()
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))  # clocks of nodes may be behind
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("sheepdog")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, encipher_only=False, decipher_only=False, **usage
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return (
        certificate.public_bytes(pem).decode(),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption).decode(),
    )
