"""Two certificate authorities for tests, as kubeadm makes one, and what such a one signs: with the
key identifiers and usages that Python 3.13 asks for (VERIFY_X509_STRICT)."""

from __future__ import annotations

import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeagent.trust import pki


def make() -> tuple[bytes, bytes]:
    """(certificate, key) of a CA, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2036, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.KeyUsage(True, False, True, False, False, True, False, False, False), True
        )
        .sign(key, hashes.SHA256())
    )
    return (
        cert.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
    )


CA_CERT, CA_KEY = make()


def server(address: str, ca_cert: bytes = CA_CERT, ca_key: bytes = CA_KEY, *names: str) -> bytes:
    """Certificate and key of a server at ``address``, PEM, signed by a CA; it has ``names`` too."""
    issuer = x509.load_pem_x509_certificate(ca_cert)
    key = pki.new_key()
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2036, 1, 1, tzinfo=dt.UTC))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(address)), *map(x509.DNSName, names)]
            ),
            False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]
            False,
        )
        .sign(pki.read_key(ca_key.decode()), hashes.SHA256())
    )
    return (pki.cert_pem(made) + pki.key_pem(key)).encode()


OTHER_CA_CERT, _ = make()


KUBELET = ec.derive_private_key(4711, ec.SECP256R1())  # one for all: known to each process


def kubelet(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate (PEM) of this cluster's CA for a kubelet's key."""
    issuer = x509.load_pem_x509_certificate(CA_CERT)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
        ]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2036, 1, 1, tzinfo=dt.UTC))
        .sign(pki.read_key(CA_KEY), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
