"""Who speaks: a node's signature over what it announces, and the voucher for its key.

A voucher is the control-plane issuer's signature over a node's public key: it says that the key
was made on a card that may lead. Whoever has only the enrol issuer makes as many keys as he likes,
and none of them gets one. Neither is a secret. ECDSA with P-256 and SHA-256, signatures as in JWS
(RFC 7518 3.4: r and s, 64 bytes), keys as compressed points (SEC 1, 2.3.3: 33 bytes): a beacon has
no room for DER.

Apart from ``pki``, and without cryptography's serialization and Python's hashlib: the keeper needs
this all the time and them never, and they are 5 MB of memory.
"""

from __future__ import annotations

import base64
import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

HALF = 32  # bytes of r, and of s
SIGNATURE_BYTES, POINT_BYTES = 2 * HALF, 33
# DER of a P-256 key up to its point, which stands uncompressed (RFC 5480 2).
_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
# No certificate and no JWS begins like this, so one signature never passes for another.
_SPEAKS, _MAY_LEAD = b"nodeagent beacon\0", b"nodeagent voucher\0"


def node_id(public: ec.EllipticCurvePublicKey) -> str:
    """``n-`` and 80 bits of the SHA-256 of the key (SubjectPublicKeyInfo) in base32: an id nobody
    else can take."""
    numbers = public.public_numbers()
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_SPKI + b"".join(n.to_bytes(HALF, "big") for n in (numbers.x, numbers.y)))
    return f"n-{base64.b32encode(digest.finalize())[:16].decode().lower()}"


def to_point(public: ec.EllipticCurvePublicKey) -> bytes:
    """The key's compressed point."""
    numbers = public.public_numbers()
    return bytes([2 + numbers.y % 2]) + numbers.x.to_bytes(HALF, "big")


def from_point(point: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a compressed point. Raises ValueError."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def sign(key: ec.EllipticCurvePrivateKey, said: bytes) -> bytes:
    """A node's signature over the bytes that it announces."""
    return _sign(key, _SPEAKS + said)


def is_signed(public: ec.EllipticCurvePublicKey, said: bytes, signature: bytes) -> bool:
    """True where the key's owner announced this."""
    return _verifies(public, _SPEAKS + said, signature)


def vouch(issuer: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> bytes:
    """The control-plane issuer's word for a node's key."""
    return _sign(issuer, _MAY_LEAD + to_point(public))


@functools.lru_cache(1024)  # it never changes, so each is looked into once
def is_vouched(issuer: bytes, point: bytes, voucher: bytes) -> bool:
    """True where the control-plane issuer vouched for a key; both keys as points. Raises
    ValueError."""
    return _verifies(from_point(issuer), _MAY_LEAD + point, voucher)


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(HALF, "big") + s.to_bytes(HALF, "big")


def _verifies(public: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:HALF], signature[HALF:]))
    try:
        public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
