"""As much OpenPGP as pinning a repository's key takes: its fingerprint and when it expires.

No gpg: Debian trixie's apt needs none any more, and starting it takes a second on a slow board.
Signatures are not checked here. apt does that, with the key alone whose fingerprint is pinned;
so a file that holds anything but one such key is refused, and apt gets the packets that were
looked at, written anew, not the file that came. RFC 9580, version 4 keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE, PUBLIC_KEY, USER_ID, PUBLIC_SUBKEY = 2, 6, 13, 14  # RFC 9580 5, packet types
USER_ATTRIBUTE = 17
ALLOWED = frozenset({SIGNATURE, PUBLIC_KEY, USER_ID, PUBLIC_SUBKEY, USER_ATTRIBUTE})
CERTIFICATIONS = frozenset({0x10, 0x11, 0x12, 0x13, 0x1F})  # RFC 9580 5.2.1, and direct key
CREATED, KEY_EXPIRES, ISSUER = 2, 9, 16  # RFC 9580 5.2.3.7, subpacket types


class BadKey(ValueError):
    """The bytes are not exactly one OpenPGP public key of version 4."""


@dataclass(frozen=True)
class Key:
    """A public key: ``fingerprint`` in 40 hexadecimal digits, ``expires`` in seconds since the
    epoch or None, ``packets`` its binary form."""

    fingerprint: str
    expires: int | None
    packets: bytes

    def expired(self, now: float) -> bool:
        """True where the key is past its own expiry at ``now`` (seconds since the epoch)."""
        return self.expires is not None and now >= self.expires


def read_key(data: bytes) -> Key:
    """The one key in an armored or binary file. Raises BadKey."""
    packets = list(_packets(_dearmored(data)))
    if not packets or packets[0][0] != PUBLIC_KEY:
        raise BadKey("it does not begin with a public key")
    if sum(kind == PUBLIC_KEY for kind, _ in packets) != 1:
        raise BadKey("it holds more than one key")
    if not {kind for kind, _ in packets} <= ALLOWED:
        raise BadKey("it holds something other than a public key")
    body = packets[0][1]
    if len(body) < 6 or body[0] != 4:
        raise BadKey("it is not a version 4 key")
    # RFC 9580 5.5.4.2: SHA-1 over 0x99, the length in two octets, and the packet's body.
    digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False)
    fingerprint = digest.hexdigest().upper()
    created = int.from_bytes(body[1:5], "big")
    lifetime = _lifetime(packets, bytes.fromhex(fingerprint)[-8:])
    whole = b"".join(_packed(kind, content) for kind, content in packets)
    return Key(fingerprint, created + lifetime if lifetime else None, whole)


def _lifetime(packets: list[tuple[int, bytes]], key_id: bytes) -> int:
    """Seconds from the key's creation that its newest self-signature grants; 0 is for ever."""
    newest, lifetime = -1, 0
    for kind, body in packets:
        if kind == PUBLIC_SUBKEY:
            break  # signatures from here on speak about subkeys
        if kind != SIGNATURE or len(body) < 8 or body[0] != 4 or body[1] not in CERTIFICATIONS:
            continue
        length = int.from_bytes(body[4:6], "big")
        hashed = dict(_subpackets(body[6 : 6 + length]))
        start = 6 + length
        rest = int.from_bytes(body[start : start + 2], "big")
        other = dict(_subpackets(body[start + 2 : start + 2 + rest]))
        if hashed.get(ISSUER, other.get(ISSUER, key_id)) != key_id:
            continue  # somebody else's word about this key
        created = int.from_bytes(hashed.get(CREATED, b""), "big")
        if created > newest:
            newest, lifetime = created, int.from_bytes(hashed.get(KEY_EXPIRES, b""), "big")
    return lifetime


def _dearmored(data: bytes) -> bytes:
    """Binary packets out of ASCII armor (RFC 9580 6.2); binary input comes back as it is."""
    if data[:1] and data[0] & 0x80:
        return data
    found = re.fullmatch(
        rb"\s*-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+: [^\r\n]*\r?\n)*\r?\n"
        rb"([A-Za-z0-9+/=\r\n]+?)(?:=[A-Za-z0-9+/]{4}\s*)?-----END PGP PUBLIC KEY BLOCK-----\s*",
        data,
    )
    if found is None:
        raise BadKey("it is neither an armored nor a binary public key")
    try:
        return base64.b64decode(re.sub(rb"[\r\n]", b"", found[1]), validate=True)
    except binascii.Error as error:
        raise BadKey("its base64 is damaged") from error


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each packet (RFC 9580 4.2); lengths in parts are refused."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 1
        if not head & 0x80:
            raise BadKey("a packet has no valid header")
        if head & 0x40:
            kind = head & 0x3F
            length, at = _length(data, at)
        else:
            kind, octets = (head >> 2) & 0x0F, (1, 2, 4, 0)[head & 0x03]
            length = int.from_bytes(data[at : at + octets], "big") if octets else len(data)
            at += octets
        if at + length > len(data):
            raise BadKey("it is cut off")
        yield kind, data[at : at + length]
        at += length


def _length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 0
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2], "big") + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    raise BadKey("a packet comes in parts")


def _subpackets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        first = data[at]
        if first < 192:
            length, at = first, at + 1
        elif first < 255:
            length = ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2], "big") + 192
            at += 2
        else:
            length, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
        if length == 0 or at + length > len(data):
            return
        yield data[at] & 0x7F, data[at + 1 : at + length]
        at += length


def _packed(kind: int, body: bytes) -> bytes:
    return bytes([0xC0 | kind, 0xFF]) + len(body).to_bytes(4, "big") + body
