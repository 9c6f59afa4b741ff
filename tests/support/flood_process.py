"""A stranger who floods: ``python -m tests.support.flood_process ADDRESS KIND RATE SECONDS VICTIM
ID``.

Sends RATE packets a second to the mDNS group, of one of the kinds in KINDS. VICTIM is the address
of a node and ID its instance, for those that speak in its name. Prints how many it sent.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable

GROUP = ("224.0.0.251", 5353)
TYPE = b"\x0a_nodeagent\x04_tcp\x05local\0"
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
PTR, TXT, SRV, A = 12, 16, 33, 1


def node_id() -> bytes:
    """The id of a node that nobody has."""
    return ("n-" + "".join(ALPHABET[byte % 32] for byte in os.urandom(16))).encode()


def label(text: bytes) -> bytes:
    """One label of a name (RFC 1035 3.1)."""
    return bytes([len(text)]) + text


def record(name: bytes, kind: int, data: bytes) -> bytes:
    """One resource record with a long life and the cache-flush bit."""
    return name + struct.pack(">HHIH", kind, 0x8001, 4500, len(data)) + data


def node(name: bytes, size: int = 300) -> list[bytes]:
    """All records of one node, with a beacon of ``size`` characters that no fleet sealed."""
    full, host = label(name) + TYPE, label(name) + b"\x05local\0"
    text = b"".join(
        label(b"b%d=" % number + os.urandom(120).hex().encode()[:240])
        for number in range(size // 240 + 1)
    )
    return [
        record(TYPE, PTR, full),
        record(full, SRV, struct.pack(">3H", 0, 0, 6444) + host),
        record(full, TXT, text),
        record(host, A, os.urandom(4)),
    ]


def response(records: list[bytes]) -> bytes:
    """An unasked answer."""
    return struct.pack(">6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def names() -> bytes:
    """A node that nobody knows."""
    return response(node(node_id()))


def large() -> bytes:
    """As much as a packet may hold (RFC 6762 17)."""
    return response([entry for _ in range(12) for entry in node(node_id(), 480)])


def malformed() -> bytes:
    """A message with damage, which is another one each time."""
    data = bytearray(names())
    for _ in range(random.randint(1, 30)):
        place = random.randrange(2, len(data))
        data[place] = random.choice((0, 0xC0, 0xFF, random.randrange(256)))
    return bytes(data[: random.randint(20, len(data))])


def questions() -> bytes:
    """Many questions for names that nobody has, some said to be continued."""
    asked = b"".join(
        label(node_id()) + TYPE + struct.pack(">HH", random.choice((PTR, TXT, SRV, 255)), 1)
        for _ in range(30)
    )
    return struct.pack(">6H", 0, random.choice((0, 0x200)), 30, 0, 0, 0) + asked


def ours() -> bytes:
    """The question that nodes ask."""
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + TYPE + struct.pack(">HH", PTR, 1)


KINDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "names": ("names that change", names),
    "large": ("packets of 7 kB", large),
    "malformed": ("damaged messages", malformed),
    "questions": ("questions, 30 in a packet", questions),
    "ours": ("the question that nodes ask", ours),
    "sources": ("names, each from another source address", names),
    "victim": ("names and forged beacons from the control plane's own address", names),
}


def datagram(source: str, data: bytes) -> bytes:
    """An IPv4 packet with a source address at will (RFC 791, RFC 768)."""
    udp = struct.pack(">4H", GROUP[1], GROUP[1], 8 + len(data), 0) + data
    parts = 0x45, 0, 20 + len(udp), 0, 0, 255, socket.IPPROTO_UDP, 0
    addresses = socket.inet_aton(source) + socket.inet_aton(GROUP[0])
    return struct.pack(">BBHHHBBH", *parts) + addresses + udp


def main(address: str, kind: str, rate: str, seconds: str, victim: str, instance: str) -> None:
    """Send until the time is up."""
    make, spoofs = KINDS[kind][1], kind in ("sources", "victim")
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    plain.bind((address, 5353))
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for sock in (plain, raw):
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    prepared = [make() for _ in range(2000)]
    if kind == "victim":
        prepared += [response(node(instance.encode())) for _ in range(500)]
        random.shuffle(prepared)
    sys.stdout.write("at it\n")
    sys.stdout.flush()
    begin, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begin) < float(seconds):
        while sent < passed * float(rate):
            data = prepared[sent % len(prepared)]
            if spoofs:
                source = victim if kind == "victim" else f"10.77.0.{random.randint(100, 254)}"
                raw.sendto(datagram(source, data), GROUP)
            else:
                plain.sendto(data, GROUP)
            sent += 1
        time.sleep(0.002)
    sys.stdout.write(f"{sent}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
