"""What is left of secret keys in raw bytes: of a disk, a partition, an image, a memory dump.

A key is looked for in every form it is written in: raw (so DER holds the private number, RFC 5915
3), in base64 at each of the three alignments, in hexadecimal. Each form is cut into pieces, so
that a key counts as found where only a part of it is left, or where line ends stand in the middle.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

CHUNK = 4 * 1024 * 1024
RAW, BASE64, HEX = 8, 12, 16  # a piece's length: 64 bits and more, so that none is there by chance


@dataclass(frozen=True)
class Trace:
    """A piece of a key that was found, and where."""

    key: str
    form: str
    offset: int

    def __str__(self) -> str:
        return f"{self.key} ({self.form}) at byte {self.offset}"


def secrets(fleet_or_card: bytes) -> dict[str, bytes]:
    """The secret values of a fleet file or card file by name: private scalars, the beacon key."""
    body = b"\n".join(line for line in fleet_or_card.splitlines() if not line.startswith(b"#"))
    content = json.loads(body)
    found = {
        part: scalar(content[part]["key"].encode())
        for part in ("root", "control_plane", "enrol")
        if "key" in content[part]
    }
    return {**found, "beacon_key": base64.b64decode(content["beacon_key"])}


def scalar(pem: bytes) -> bytes:
    """The private number of a P-256 key, 32 bytes: whoever has it has the key."""
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def pieces(secret: bytes) -> dict[bytes, str]:
    """Every byte string that gives a part of ``secret`` away, with the form it is in."""
    found = dict.fromkeys(_cut(secret, RAW), "raw")
    for shift in range(3):
        # What stands before it shares the first characters, what stands behind it the last.
        text = base64.b64encode(bytes(shift) + secret)
        first, last = (shift * 8 + 5) // 6, (shift + len(secret)) * 8 // 6
        found |= dict.fromkeys(_cut(text[first:last], BASE64), "base64")
    for digits in (secret.hex(), secret.hex().upper()):
        found |= dict.fromkeys(_cut(digits.encode(), HEX), "hexadecimal")
    return found


def _cut(text: bytes, length: int) -> Iterator[bytes]:
    for start in range(0, len(text) - length + 1, length):
        yield text[start : start + length]


def search(data: bytes, keys: Mapping[str, bytes], base: int = 0) -> list[Trace]:
    """Every place of every piece in ``data``; ``base`` is added to offsets."""
    found = []
    for name, secret in keys.items():
        for piece, form in pieces(secret).items():
            at = data.find(piece)
            while at >= 0:
                found.append(Trace(name, form, base + at))
                at = data.find(piece, at + 1)
    return sorted(found, key=lambda trace: trace.offset)


def search_file(
    path: Path, keys: Mapping[str, bytes], begin: int = 0, end: int | None = None
) -> list[Trace]:
    """The same in a file from byte ``begin`` to ``end``, in chunks; holes are passed over."""
    found: list[Trace] = []
    with path.open("rb") as file:
        stop = file.seek(0, os.SEEK_END) if end is None else end
        at = begin
        while at < stop:
            try:
                at = max(at, os.lseek(file.fileno(), at, os.SEEK_DATA))
            except OSError:  # ENXIO: nothing but a hole up to the end (lseek(2))
                break
            # Pieces that lie across two chunks are in the overlap.
            data = os.pread(file.fileno(), min(CHUNK + HEX, stop - at), at)
            if not data:
                break
            if data.count(0) < len(data):
                found += search(data, keys, at)
            at += CHUNK
    return sorted(set(found), key=lambda trace: trace.offset)
