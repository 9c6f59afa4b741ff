"""What of the mDNS group the kernel hands to the zeroconf library: our question, nothing else.

The library keeps every record and question it ever read for minutes or hours, without a bound in
the versions that distributions carry, so one flooding stranger could fill the memory. Here it only
announces; what is heard comes through ``ear``. So its sockets get a filter (classic BPF; Linux,
Documentation/networking/filter.rst) that passes one message: the question for our service type,
by multicast or with the bit that asks for a unicast answer (RFC 6762 5.4), without known answers.
"""

from __future__ import annotations

import array
import socket
import struct

SO_ATTACH_FILTER = 26  # socket(7)
UDP_HEADER, DNS_HEADER = 8, 12  # bytes; a filter on a UDP socket sees the UDP header too
NOT_A_PLAIN_QUERY = 0xFA00  # QR, opcode and TC (RFC 1035 4.1.1)
PTR, IN = 12, 1  # RFC 1035 3.2.2, 3.2.4
# Operations (filter.rst; linux/filter.h): load a word, half, byte or the length; and; jump; return.
LD_LEN, AND, JEQ, JSET, RET = 0x80, 0x54, 0x15, 0x45, 0x06
LOADS = {4: 0x20, 2: 0x28, 1: 0x30}
WHOLE_PACKET = 0x40000


def wire_name(name: str) -> bytes:
    """A domain name with its final dot as it stands in a message (RFC 1035 3.1)."""
    labels = [label.encode("ascii") for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels)


def program(name: str) -> list[tuple[int, int, int, int]]:
    """The filter for the question for PTR records of ``name``: (code, jump true, false, value)."""
    question = wire_name(name) + struct.pack(">H", PTR)
    tests = [(LD_LEN, 0), (JEQ, UDP_HEADER + DNS_HEADER + len(question) + 2)]
    tests += [(LOADS[2], UDP_HEADER + 2), (JSET, NOT_A_PLAIN_QUERY)]
    counts = UDP_HEADER + 4
    tests += [(LOADS[4], counts), (JEQ, 1 << 16), (LOADS[4], counts + 4), (JEQ, 0)]
    place = UDP_HEADER + DNS_HEADER
    while question:
        size = next(size for size in LOADS if size <= len(question))
        tests += [(LOADS[size], place), (JEQ, int.from_bytes(question[:size], "big"))]
        place, question = place + size, question[size:]
    tests += [(LOADS[2], place), (AND, 0x7FFF), (JEQ, IN)]  # the upper bit is the unicast one
    lines = []
    for number, (code, value) in enumerate(tests):
        away = len(tests) - number  # from the next line to the one that drops
        true = away if code == JSET else 0
        lines.append((code, true, away if code == JEQ else 0, value))
    return [*lines, (RET, 0, 0, WHOLE_PACKET), (RET, 0, 0, 0)]


def attach(sock: socket.socket, name: str) -> None:
    """From now on ``sock`` gets only the question for ``name``. Raises OSError."""
    lines = program(name)
    code = array.array("B", b"".join(struct.pack("HBBI", *line) for line in lines))
    address, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(lines), address))
