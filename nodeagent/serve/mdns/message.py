"""The mDNS messages (RFC 1035 4.1, RFC 6762) of this service: what is sent, what is understood.

zeroconf writes them; it opens no socket and reads nothing. What strangers send is read by a bounded
parser that keeps nothing: zeroconf's logger keeps every malformed message for ever, and its parser
builds objects for all the records that nobody here wants.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from zeroconf import DNSOutgoing, ServiceInfo  # type: ignore[attr-defined]  # its own old name

from nodeagent.fleet.handoff import Announcement
from nodeagent.trust import wire

TYPE = "_nodeagent._tcp.local."
SERVICE = TYPE[:-1]
MARK = b"\x0a_nodeagent"  # in every packet that names the type (RFC 1035 3.1)
CHUNK = 250  # a TXT string has at most 255 bytes with its key (RFC 6763 6.1)
MAX_STRINGS = 4
RESPONSE, AUTHORITATIVE = 0x8000, 0x0400  # QR and AA, RFC 1035 4.1.1
NOT_PLAIN = 0x780F  # opcode and rcode; with any of these a message is ignored, RFC 6762 18
A, PTR, TXT, AAAA, SRV, ANY = 1, 12, 16, 28, 33, 255  # RFC 1035 3.2.2, RFC 3596, RFC 2782
PTR_TTL = 4500  # seconds, RFC 6762 10
MAX_ENTRIES = 64  # questions and records looked at in one message
MAX_STEPS = 16  # labels and pointers of a name; ours have four labels
POINTER = 0xC0  # both bits set: a pointer to an earlier name, RFC 1035 4.1.4

QUESTION = (
    struct.pack(">6H", 0, 0, 1, 0, 0, 0) + MARK + b"\4_tcp\5local\0" + struct.pack(">2H", PTR, 1)
)


def to_txt(beacon: str) -> dict[str, str]:
    """A sealed beacon as TXT strings b0, b1, ..."""
    pieces = [beacon[start : start + CHUNK] for start in range(0, len(beacon), CHUNK)]
    return {f"b{number}": piece for number, piece in enumerate(pieces)}


def from_txt(text: bytes) -> str | None:
    """The sealed beacon in the strings of a TXT record (RFC 1035 3.3.14), or None."""
    strings: dict[bytes, bytes] = {}
    while text and len(strings) < MAX_STRINGS:
        string, text = text[1 : 1 + text[0]], text[1 + text[0] :]
        name, _, value = string.partition(b"=")
        strings.setdefault(name, value)
    pieces = [strings.get(f"b{number}".encode(), b"") for number in range(MAX_STRINGS)]
    try:
        return str(wire.text(r"[A-Za-z0-9_-]+", 900)(b"".join(pieces).decode("ascii")))
    except (wire.Malformed, UnicodeDecodeError):
        return None


def records(said: Announcement, ttl: int | None = None) -> list[bytes]:
    """The packets that say it all: PTR, SRV, TXT, and A or AAAA. ``ttl`` None: as RFC 6762 10 has
    them; 0: a goodbye (10.1)."""
    info = ServiceInfo(
        TYPE,
        f"{said.instance}.{TYPE}",
        parsed_addresses=[said.interface_address],
        port=said.port,
        # After the beacon: others read no more strings than a beacon has.
        properties=to_txt(said.beacon) | ({"phase": said.phase} if said.phase else {}),
        server=f"{said.instance}.local.",
    )
    service = info.dns_pointer(ttl), info.dns_service(ttl), info.dns_text(ttl)
    out = DNSOutgoing(RESPONSE | AUTHORITATIVE)
    for record in (*service, *info.dns_addresses(ttl)):
        out.add_answer_at_time(record, 0)
    return list(out.packets())


def beacons(data: bytes) -> Iterator[tuple[str, str]]:
    """(instance, sealed beacon) of each TXT record of a node that is not a goodbye (RFC 6762 10.1),
    up to where the message stops making sense. Never raises."""
    for place, kind, ttl, begin, end in _entries(data, RESPONSE):
        if kind == TXT and ttl:
            instance, _, service = _name(data, place).partition(".")
            beacon = from_txt(data[begin:end])
            if service == SERVICE and beacon is not None:
                try:
                    yield str(wire.node_id(instance)), beacon
                except wire.Malformed:
                    continue


def asks(data: bytes, instance: str) -> bool:
    """True where a query wants any of the records of ``instance``; its pointer is not wanted by
    whoever knows it already (RFC 6762 7.1). Never raises."""
    full = f"{instance}.{SERVICE}"
    ours = {SERVICE: (PTR, ANY), full: (SRV, TXT, ANY), f"{instance}.local": (A, AAAA, ANY)}
    wanted = set()
    for place, kind, ttl, begin, _ in _entries(data, 0):
        name = _name(data, place).lower()
        if ttl is None:
            wanted |= {name} if kind in ours.get(name, ()) else set()
        elif (kind, name) == (PTR, SERVICE) and ttl >= PTR_TTL // 2:
            wanted -= {SERVICE} if _name(data, begin).lower() == full else set()
    return bool(wanted)


def _entries(data: bytes, response: int) -> Iterator[tuple[int, int, int | None, int, int]]:
    """The first questions and records of a message, if that is a response (``RESPONSE``) or a query
    (0) as wanted: place of the name, type, TTL (None: a question), begin and end of the data."""
    try:
        flags, questions, *counts = struct.unpack_from(">5H", data, 2)
        if flags & (RESPONSE | NOT_PLAIN) != response:
            return
        end = 12
        for number in range(min(questions + sum(counts), MAX_ENTRIES)):
            name, place = end, _after_name(data, end)
            kind, ttl, begin, length = struct.unpack_from(">H", data, place)[0], None, place + 4, 0
            if number >= questions:
                ttl, length = struct.unpack_from(">IH", data, begin)
                begin += 6
            end = begin + length
            if end > len(data):
                return
            yield name, kind, ttl, begin, end
    except (IndexError, struct.error):
        return


def _after_name(data: bytes, place: int) -> int:
    """Where a name ends, as it stands there. Raises IndexError."""
    while length := data[place]:
        if length & POINTER == POINTER:
            return place + 2
        place += 1 + length
    return place + 1


def _name(data: bytes, place: int) -> str:
    """A name with its pointers followed, without its final dot; "" where it has more labels than
    ours or is damaged."""
    labels: list[str] = []
    for _ in range(MAX_STEPS):
        length = int.from_bytes(data[place : place + 1], "big")
        if not length:
            return ".".join(labels)
        if length & POINTER == POINTER:
            place = int.from_bytes(data[place : place + 2], "big") & ~(POINTER << 8)
        else:
            labels.append(data[place + 1 : place + 1 + length].decode("latin-1"))
            place += 1 + length
    return ""
