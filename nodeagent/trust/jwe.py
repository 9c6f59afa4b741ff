"""Text for one reader: JWE compact serialisation (RFC 7516), ECDH-ES on P-256 with A256GCM.

For the few bytes of a bootstrap token. The key agreement is RFC 7518 4.6 ("Direct Key Agreement"),
by the primitives of ``cryptography``; who wrote it is proved by the signed message around it.
"""

from __future__ import annotations

import json
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from nodeagent.trust import jws, pki, wire

MAX_BYTES = 1024
ALGORITHM, ENCRYPTION = "ECDH-ES", "A256GCM"
KEY, IV, TAG = 32, 12, 16  # bytes (RFC 7518 5.3)

_COORDINATE = wire.text(r"[A-Za-z0-9_-]{43}", 43)
_EPK: dict[str, wire.Check] = {
    "kty": wire.text("EC", 2),
    "crv": wire.text("P-256", 5),
    "x": _COORDINATE,
    "y": _COORDINATE,
}
_HEADER: dict[str, wire.Check] = {
    "alg": wire.text(ALGORITHM, 7),
    "enc": wire.text(ENCRYPTION, 7),
    "epk": lambda value: wire.exact(value, _EPK),
}


def encrypt(data: bytes, reader: pki.PublicKey) -> str:
    """``data`` for whoever holds the private key of ``reader``."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    numbers = ephemeral.public_key().public_numbers()
    x, y = (wire.base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    epk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    header = {"alg": ALGORITHM, "enc": ENCRYPTION, "epk": epk}
    protected = wire.base64url(json.dumps(header, separators=(",", ":")).encode())
    iv = os.urandom(IV)
    sealed = AESGCM(_agreed(ephemeral, reader)).encrypt(iv, data, protected.encode())
    parts = (
        protected,
        "",
        wire.base64url(iv),
        wire.base64url(sealed[:-TAG]),
        wire.base64url(sealed[-TAG:]),
    )
    return ".".join(parts)


def decrypt(text: str, key: pki.PrivateKey) -> bytes:
    """What was encrypted to the public key of ``key``. Raises Malformed."""
    parts = text.split(".")
    if len(text) > MAX_BYTES or len(parts) != 5 or parts[1]:
        raise wire.Malformed("no encrypted text")
    header, _, iv, sealed, tag = (jws.decode(part.encode()) for part in parts)
    epk = wire.exact(wire.loads(header, 512), _HEADER)["epk"]
    if len(iv) != IV or len(tag) != TAG:
        raise wire.Malformed("no encrypted text")
    try:
        x, y = (int.from_bytes(jws.decode(epk[name].encode()), "big") for name in ("x", "y"))
        ephemeral = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        opened = AESGCM(_agreed(key, ephemeral)).decrypt(iv, sealed + tag, parts[0].encode())
    except (ValueError, InvalidTag) as error:  # a point that is not on the curve, another key
        raise wire.Malformed("encrypted to another key, or changed") from error
    return opened


def _agreed(own: pki.PrivateKey, other: pki.PublicKey) -> bytes:
    """The content key: ECDH, then Concat KDF over the algorithm, no party's info, 256 bits."""
    name = ENCRYPTION.encode()
    info = len(name).to_bytes(4, "big") + name + bytes(8) + (8 * KEY).to_bytes(4, "big")
    return derive(own.exchange(ec.ECDH(), other), info, KEY)


def derive(shared: bytes, info: bytes, length: int) -> bytes:
    """Concat KDF with SHA-256 (NIST SP 800-56A, RFC 7518 4.6.2)."""
    kdf: Any = ConcatKDFHash(hashes.SHA256(), length, info)
    derived: bytes = kdf.derive(shared)
    return derived
