"""Signed messages: JWS compact serialisation (RFC 7515), ES256 only, one type each.

PyJWT signs and verifies; what it would overlook is refused here first: other header fields (keys
or addresses of keys sent along), duplicate names, odd numbers, depth.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import jwt

from nodeagent.trust import pki, wire

MAX_BYTES = 16 * 1024
ALGORITHM = "ES256"


def sign(claims: Mapping[str, object], key: pki.PrivateKey, typ: str) -> bytes:
    """A compact JWS of the claims."""
    payload = json.dumps(claims, separators=(",", ":")).encode()
    text: str | bytes = jwt.PyJWS().encode(payload, key, ALGORITHM, {"typ": typ})
    return text.encode() if isinstance(text, str) else text


def peek(data: bytes, typ: str) -> Any:
    """The claims, unproved: only to find out whose key must verify them. Raises Malformed."""
    if len(data) > MAX_BYTES:
        raise wire.Malformed(f"longer than {MAX_BYTES} bytes")
    parts = data.split(b".")
    if len(parts) != 3:
        raise wire.Malformed("no signed message")
    header = wire.loads(decode(parts[0]), 256)
    wire.exact(header, {"alg": wire.text(ALGORITHM, 5), "typ": wire.text(_literal(typ), 40)})
    return wire.loads(decode(parts[1]), MAX_BYTES)


def verify(data: bytes, key: pki.PublicKey, typ: str) -> Any:
    """The claims, signed by ``key``. Raises Malformed."""
    claims = peek(data, typ)
    try:
        jwt.PyJWS().decode(data.decode("ascii"), key, algorithms=[ALGORITHM])
    except (jwt.InvalidTokenError, UnicodeDecodeError) as error:
        raise wire.Malformed("the signature is wrong") from error
    return claims


def decode(part: bytes) -> bytes:
    """base64url without padding (RFC 7515 2), in its only spelling. Raises Malformed."""
    try:
        data = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise wire.Malformed("no base64url") from error
    if wire.base64url(data).encode() != part:
        raise wire.Malformed("base64url in another spelling")
    return data


def _literal(typ: str) -> str:
    return typ.replace("+", r"\+")
