"""The TXT records in an mDNS message (RFC 1035 4.1), read strictly and with nothing kept.

A parser of our own, because zeroconf's keeps every malformed message that it met for ever, and
builds objects for all the records that nobody here wants.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

RESPONSE = 0x8000  # the bit QR, RFC 1035 4.1.1
TXT = 16  # RFC 1035 3.2.2
MAX_NAME = 255  # bytes, RFC 1035 3.1
POINTER = 0xC0  # both bits set: a pointer to an earlier name, RFC 1035 4.1.4


def texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(name without its final dot, text) of each TXT record that is not a goodbye (RFC 6762 10.1),
    up to where the message stops making sense. Never raises."""
    try:
        flags, questions, *counts = struct.unpack_from(">5H", data, 2)
        if not flags & RESPONSE:
            return
        place = 12
        for _ in range(questions):
            place = _after_name(data, place) + 4
        for _ in range(sum(counts)):
            begin, place = place, _after_name(data, place)
            kind, _, ttl, length = struct.unpack_from(">HHIH", data, place)
            place += 10 + length
            if place > len(data):
                return
            if kind == TXT and ttl:
                yield _name(data, begin), data[place - length : place]
    except (IndexError, struct.error, ValueError):
        return


def _after_name(data: bytes, place: int) -> int:
    """Where a name ends, as it stands there."""
    while length := data[place]:
        if length & POINTER == POINTER:
            return place + 2
        place += 1 + length
    return place + 1


def _name(data: bytes, place: int) -> str:
    """A name with its pointers followed, which lead only backwards. Raises ValueError, IndexError,
    also for one that is not ASCII."""
    labels: list[str] = []
    size, limit = 0, place
    while length := data[place]:
        if length & POINTER:
            place = (length & ~POINTER) << 8 | data[place + 1]
            if length & POINTER != POINTER or place >= limit:
                raise ValueError("a pointer that does not lead backwards")
            limit = place
            continue
        label = data[place + 1 : place + 1 + length]
        size += 1 + length
        if len(label) != length or size > MAX_NAME:
            raise ValueError("too long")
        labels.append(label.decode("ascii"))
        place += 1 + length
    return ".".join(labels)
