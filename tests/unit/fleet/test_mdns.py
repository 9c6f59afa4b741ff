"""What strangers send by mDNS: only our question reaches the library, only TXT records are read."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo, const, current_time_millis
from zeroconf._protocol.outgoing import DNSOutgoing

from nodeagent.serve.mdns import socket_filter as packetfilter
from nodeagent.serve.mdns import txt_records as mdnstext
from nodeagent.serve.mdns.discovery import TYPE
from nodeagent.serve.mdns.rate_limit import ALL, EACH, MAX_SOURCES, Budget

QUESTION = packetfilter.wire_name(TYPE)
NAME = "n-aaaaaaaaaaaaaaaa"


def query(
    flags: int = 0,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
    name: bytes = QUESTION,
    kind: int = 12,
    group: int = 1,
    tail: bytes = b"",
) -> bytes:
    """A question (RFC 1035 4.1)."""
    return struct.pack(">6H", 7, flags, *counts) + name + struct.pack(">HH", kind, group) + tail


@pytest.mark.network
@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_the_kernel_passes_our_question_and_nothing_else(family: int, address: str) -> None:
    passed = [query(), query(group=0x8001)]
    dropped = [
        b"", b"x", query()[:-1], query(tail=b"x"), query(flags=0x8400), query(flags=0x200),
        query(flags=0x800), query(counts=(2, 0, 0, 0)), query(counts=(0, 0, 0, 0)),
        query(counts=(1, 1, 0, 0)), query(counts=(1, 0, 1, 0)), query(counts=(1, 0, 0, 1)),
        query(kind=16), query(group=3), query(name=QUESTION.replace(b"tcp", b"udp")),
        query(name=b"\0" * len(QUESTION)),
    ]  # fmt: skip
    with (
        socket.socket(family, socket.SOCK_DGRAM) as ours,
        socket.socket(family, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind((address, 0))
        packetfilter.attach(ours, TYPE)
        for packet in (*dropped, *passed):
            theirs.sendto(packet, ours.getsockname()[:2])
        ours.settimeout(5)
        assert [ours.recv(9000) for _ in passed] == passed
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(9000)


def announcement(*names: str) -> bytes:
    """What the library sends for nodes of these names."""
    out = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    now = current_time_millis()
    for name in names:
        info = ServiceInfo(
            TYPE, f"{name}.{TYPE}", port=6444, addresses=[b"\x0a\0\0\1"], server=f"{name}.local.",
            properties={"b0": f"beacon-of-{name}"},
        )  # fmt: skip
        for record in (info.dns_pointer(), info.dns_service(), info.dns_text()):
            out.add_answer_at_time(record, now)
    return b"".join(out.packets())


def test_txt_records_are_read_with_their_names() -> None:
    names = [NAME, "n-bbbbbbbbbbbbbbbb"]
    assert list(mdnstext.texts(announcement(*names))) == [
        (f"{name}.{TYPE[:-1]}", b"\x1fb0=beacon-of-" + name.encode()) for name in names
    ]


def record(name: bytes, kind: int = 16, ttl: int = 1, text: bytes = b"\2hi") -> bytes:
    """One record as it stands in a message."""
    return name + struct.pack(">HHIH", kind, 1, ttl, len(text)) + text


@pytest.mark.parametrize(
    ("flags", "count", "body", "expected"),
    [
        (0x8400, 1, record(b"\1a\0"), [("a", b"\2hi")]),
        (0x8400, 2, record(b"\1a\0", kind=1) + record(b"\1b\0"), [("b", b"\2hi")]),
        (0x8400, 2, record(b"\1a\0") + record(b"\1b\xc0\x0c"), [("a", b"\2hi"), ("b.a", b"\2hi")]),
        (0, 1, record(b"\1a\0"), []),
        (0x8400, 1, record(b"\1a\0", ttl=0), []),
        (0x8400, 1, record(b"\xc0\x0c"), []),
        (0x8400, 1, record(b"\xc0\x20"), []),
        (0x8400, 1, record(b"\x40a\0"), []),
        (0x8400, 1, record(b"\1\xff\0"), []),
        (0x8400, 1, record(b"\1a\0")[:-1], []),
        (0x8400, 9, record(b"\1a\0"), [("a", b"\2hi")]),
        (0x8400, 1, record((b"\x3f" + b"a" * 63) * 5 + b"\0"), []),
    ],
    ids=[
        "plain", "others are passed over", "pointer", "a query", "goodbye", "to itself", "forward",
        "no such label", "not ASCII", "cut off", "fewer than said", "too long",
    ],
)  # fmt: skip
def test_odd_messages(
    flags: int, count: int, body: bytes, expected: list[tuple[str, bytes]]
) -> None:
    data = struct.pack(">6H", 0, flags, 0, count, 0, 0) + body
    assert list(mdnstext.texts(data)) == expected


@given(
    st.binary(max_size=600) | st.binary(max_size=300).map(lambda tail: announcement(NAME) + tail)
)
def test_no_message_raises(data: bytes) -> None:
    for name, text in mdnstext.texts(data):
        assert len(name) <= mdnstext.MAX_NAME and len(text) <= len(data)


@given(st.data())
def test_no_damage_raises(data: st.DataObject) -> None:
    packet = bytearray(announcement(NAME))
    for place in data.draw(st.lists(st.integers(0, len(packet) - 1), max_size=8)):
        packet[place] = data.draw(st.integers(0, 255))
    assert len(list(mdnstext.texts(bytes(packet)))) <= 3


def test_a_flooding_source_spends_only_its_own_budget() -> None:
    budget = Budget()
    assert sum(budget.allows("flood", 5.0) for _ in range(1000)) == EACH
    assert budget.allows("node", 5.9)
    assert budget.allows("flood", 6.0), "a new second"


def test_whoever_was_not_heard_yet_is_heard_though_all_is_spent() -> None:
    budget = Budget()
    spent = sum(budget.allows(f"s{n}", 5.0) for n in range(ALL // EACH) for _ in range(EACH))
    assert spent == ALL
    assert not budget.allows("s1", 5.0)
    assert budget.allows("node", 5.0)
    assert not budget.allows("node", 5.0)
    assert sum(budget.allows(f"x{n}", 5.0) for n in range(5000)) < MAX_SOURCES
