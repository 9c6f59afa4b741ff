"""Certificates of a fleet (RFC 5280): P-256 keys, SHA-256, each with the same few extensions.

All certificates begin at one fixed past date and end far ahead: boards without a clock boot in
the past, and a card may lie in a drawer for years. What ends a node's right is not a date.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2070, 1, 1, tzinfo=UTC)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH

# What cryptography raises for DER that it cannot read, some of it only when a part is asked for.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,  # 38, of an unknown kind of text in a name
    UnsupportedAlgorithm,
    InternalError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


class BadCertificate(ValueError):
    """A certificate or key is not what it must be; the text says in what."""


def new_key() -> PrivateKey:
    """A fresh P-256 key from the system's random numbers."""
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: Any) -> bytes:
    """SubjectPublicKeyInfo of a public key of any kind, in DER (RFC 5280 4.1.2.7)."""
    der: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der


def spki_hash(key: Any) -> str:
    """SHA-256 of a public key of any kind, in hex: what a join request names its kubelet's by."""
    return hashlib.sha256(spki(key)).hexdigest()


def short_hash(key: PublicKey) -> str:
    """16 characters of lower-case base32: the first 80 bits of the key's SHA-256."""
    return base64.b32encode(hashlib.sha256(spki(key)).digest())[:16].decode().lower()


def key_pem(key: PrivateKey) -> str:
    """Unencrypted PKCS #8 (RFC 5958) in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def cert_pem(cert: x509.Certificate) -> str:
    """The certificate in PEM (RFC 7468)."""
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def cert_der(cert: x509.Certificate) -> bytes:
    """The certificate in DER."""
    return cert.public_bytes(serialization.Encoding.DER)


def read_key(pem: str | bytes) -> PrivateKey:
    """A P-256 private key from PEM. Raises BadCertificate."""
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        key = serialization.load_pem_private_key(data, None)
    except UNREADABLE as error:
        raise BadCertificate("no private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise BadCertificate("the key is not P-256")
    return key


def read_public(der: bytes) -> PublicKey:
    """A P-256 public key from its SubjectPublicKeyInfo in DER. Raises BadCertificate."""
    try:
        key = serialization.load_der_public_key(der)
    except UNREADABLE as error:
        raise BadCertificate("no public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadCertificate("the key is not P-256")
    return key


def read_cert(data: str | bytes) -> x509.Certificate:
    """A certificate from PEM (text) or DER (bytes), read to its last part. Raises
    BadCertificate."""
    try:
        if isinstance(data, str):
            cert = x509.load_pem_x509_certificate(data.encode())
        else:
            cert = x509.load_der_x509_certificate(data)
        # These are read when asked for; what is wrong in them shall show here and not later.
        _ = cert.subject, cert.issuer, cert.extensions, cert.signature_hash_algorithm
        cert.public_key()
        return cert
    except UNREADABLE as error:
        raise BadCertificate("no certificate") from error


def issue(
    name: str,
    public: PublicKey,
    issuer: str,
    issuer_key: PrivateKey,
    *,
    usages: Sequence[x509.ObjectIdentifier] = (),
    dns: Sequence[str] = (),
    path_length: int | None = None,
    within: str | None = None,
) -> x509.Certificate:
    """Issue a certificate; ``path_length`` makes it an issuer's, ``within`` limits DNS names below.

    SKI, AKI and critical basicConstraints and keyUsage are always there: OpenSSL's strict mode,
    the default from Python 3.13 on, refuses certificates without them.
    """
    ca = path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(_key_usage(ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
    if dns:
        names = [x509.DNSName(entry) for entry in dns]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if within:
        allowed = x509.NameConstraints([x509.DNSName(within)], None)
        builder = builder.add_extension(allowed, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def common_name(cert: x509.Certificate) -> str:
    """The subject's only common name. Raises BadCertificate."""
    names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or len(list(cert.subject)) != 1:
        raise BadCertificate("the subject must be one common name")
    return str(names[0].value)


def public_key(cert: x509.Certificate) -> PublicKey:
    """The certificate's P-256 key. Raises BadCertificate."""
    key = cert.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadCertificate("the certificate's key is not P-256")
    return key


def check_issued(cert: x509.Certificate, issuer: x509.Certificate) -> None:
    """Issuer name and signature match, no path in between. Raises BadCertificate.

    (``verify_directly_issued_by`` does this from cryptography 40 on; Debian 12 has 38.)
    """
    if cert.issuer != issuer.subject or not isinstance(
        cert.signature_hash_algorithm, hashes.SHA256
    ):
        raise BadCertificate("issued by another issuer")
    try:
        public_key(issuer).verify(
            cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature as error:
        raise BadCertificate("the issuer's signature is wrong") from error


def check_leaf(cert: x509.Certificate, usage: x509.ObjectIdentifier, dns: str) -> None:
    """An end certificate for signing, with this usage and this DNS name. Raises BadCertificate."""
    try:
        extensions = cert.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        key_usage = extensions.get_extension_for_class(x509.KeyUsage).value
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise BadCertificate("an extension is missing or wrong") from error
    if basic.ca or key_usage.key_cert_sign or not key_usage.digital_signature:
        raise BadCertificate("not an end certificate for signatures")
    if usage not in extended or dns not in names.get_values_for_type(x509.DNSName):
        raise BadCertificate("not issued for this purpose and name")
