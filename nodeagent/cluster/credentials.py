"""Client certificates for users of the cluster, as kubeadm makes them (kubeadm docs, "PKI
certificates and requirements"): the user's name is the common name."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = dt.timedelta(days=365)
SLACK = dt.timedelta(hours=1)  # the API server's clock may be behind a little


def client(
    user: str, ca_cert: bytes, ca_key: bytes, now: float, group: str = ""
) -> tuple[bytes, bytes]:
    """(certificate, key) as PEM for ``user`` of ``group``; ``now`` in seconds since the epoch.

    Raises ValueError where the CA's files are damaged.
    """
    issuer = x509.load_pem_x509_certificate(ca_cert)
    signer = serialization.load_pem_private_key(ca_key, None)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = dt.datetime.fromtimestamp(now, dt.UTC) - SLACK
    named = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        named.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(named))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFE)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(usage, True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def ends(pem: bytes) -> float | None:
    """When the first certificate in ``pem`` ends, in seconds since the epoch; None where there is
    none. Raises ValueError for a damaged one."""
    return _moment(pem, "not_valid_after")


def begins(pem: bytes) -> float | None:
    """As ``ends``: from when it is valid."""
    return _moment(pem, "not_valid_before")


def _moment(pem: bytes, name: str) -> float | None:
    begin = pem.find(b"-----BEGIN CERTIFICATE")
    if begin < 0:
        return None
    certificate = x509.load_pem_x509_certificate(pem[begin:])
    moment = getattr(certificate, f"{name}_utc", None)  # cryptography 42; before it, naive
    if moment is None:
        moment = getattr(certificate, name).replace(tzinfo=dt.UTC)
    return float(moment.timestamp())


def serves(cert: bytes | None, key: bytes | None, *who: str) -> bool:
    """True where certificate and key (PEM) are of one another, and the certificate is made out to
    each of ``who``: names, or addresses."""
    try:
        certificate = x509.load_pem_x509_certificate(cert or b"")
        own = serialization.load_pem_private_key(key or b"", None).public_key()
        alternatives = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    known = {str(name.value) for name in alternatives}
    return own == certificate.public_key() and known.issuperset(who)
