"""What goes over the mDNS group: what we say and when, what of a stranger's we understand."""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSIncoming, DNSText  # type: ignore[attr-defined]

import nodeagent
from nodeagent.fleet.handoff import Announcement
from nodeagent.serve.mdns import discovery, message
from nodeagent.serve.mdns.discovery import Discovery
from nodeagent.serve.mdns.link import Link
from nodeagent.serve.mdns.rate_limit import ALL, EACH, JITTER, MAX_SOURCES, Budget, Pace

NAME = "n-aaaaaaaaaaaaaaaa"
OTHER = "n-bbbbbbbbbbbbbbbb"
HERE = Link("eth0", "10.77.0.1")


def saying(instance: str = NAME, beacon: str = "abc", address: str = "10.77.0.1") -> Announcement:
    """An announcement of a node."""
    return Announcement(address, instance, beacon, 6444, False, False)


def name(text: str) -> bytes:
    """A domain name as it stands in a message (RFC 1035 3.1)."""
    labels = text.split(".")
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in labels) + b"\0"


def query(*questions: tuple[str, int], flags: int = 0, known: bytes = b"") -> bytes:
    """A question, with one known answer or none."""
    asked = b"".join(name(text) + struct.pack(">2H", kind, 1) for text, kind in questions)
    return struct.pack(">6H", 7, flags, len(questions), bool(known), 0, 0) + asked + known


def record(owner: bytes, kind: int = 16, ttl: int = 1, text: bytes = b"\6b0=abc") -> bytes:
    """One record as it stands in a message."""
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(text)) + text


def pointer(instance: str, ttl: int) -> bytes:
    """Who asks knows this node already."""
    return record(name(message.SERVICE), 12, ttl, name(f"{instance}.{message.SERVICE}"))


SHORT = b"\x12" + OTHER.encode() + b"\xc0\x0c"  # with a pointer to the first name
NODE, ENDLESS = name(f"{OTHER}.{message.SERVICE}"), b"\1a" * 40 + b"\0"
SAID = [(OTHER, "abc")]


@pytest.mark.parametrize("address", ["10.77.0.1", "fd77::1"])
def test_all_is_said_in_one_packet(address: str) -> None:
    """As a reader of another's making understands it."""
    (packet,) = message.records(saying(beacon="x" * 900, address=address))
    assert len(packet) < 1400
    answers: Any = DNSIncoming(packet).answers  # a method since 0.55
    kinds = {answer.type: answer for answer in (answers() if callable(answers) else answers)}
    assert sorted(kinds) == sorted({12, 16, 33, 28 if ":" in address else 1})
    assert [kinds[kind].unique for kind in (12, 16, 33)] == [False, True, True]
    assert [kinds[kind].ttl for kind in (12, 16, 33)] == [4500, 4500, 120]
    assert isinstance(kinds[16], DNSText) and kinds[16].text == message_text("x" * 900)
    assert list(message.beacons(packet)) == [(NAME, "x" * 900)]


def message_text(beacon: str) -> bytes:
    """A beacon as the data of a TXT record."""
    strings = [f"{key}={piece}".encode() for key, piece in message.to_txt(beacon).items()]
    return b"".join(bytes([len(string)]) + string for string in strings)


def test_a_goodbye_says_the_same_with_no_time_left() -> None:
    (packet,) = message.records(saying(), 0)
    assert packet[:12] == message.records(saying())[0][:12]
    assert list(message.beacons(packet)) == []


@pytest.mark.parametrize(
    ("flags", "count", "body", "expected"),
    [
        (0x8400, 1, record(NODE), SAID),
        (0x8400, 2, record(NODE, kind=1) + record(NODE), SAID),
        (0x8400, 2, record(name(message.SERVICE), 1) + record(SHORT), SAID),
        (0, 1, record(NODE), []),
        (0x8401, 1, record(NODE), []),
        (0x8400, 1, record(NODE, ttl=0), []),
        (0x8400, 1, record(b"\xc0\x0c"), []),
        (0x8400, 1, record(b"\xc0\x50"), []),
        (0x8400, 1, record(b"\x40" + NODE), []),
        (0x8400, 1, record(name(f"{OTHER[:-1]}\xff.{message.SERVICE}")), []),
        (0x8400, 1, record(name(f"printer.{message.SERVICE}")), []),
        (0x8400, 1, record(name(f"{OTHER}._http._tcp.local")), []),
        (0x8400, 1, record(NODE)[:-1], []),
        (0x8400, 9, record(NODE), SAID),
        (0x8400, 2, record(ENDLESS) + record(NODE), SAID),
        (0x8400, 65, record(ENDLESS) * 64 + record(NODE), []),
        (0x8400, 1, record(NODE, text=b"\6b0=a c"), []),
    ],
    ids=[
        "plain", "others are passed over", "pointer", "a query", "an error", "goodbye", "to itself",
        "out of the packet", "no such label", "not ASCII", "no node", "another service", "cut off",
        "fewer than said", "an endless name before", "too many", "no beacon",
    ],
)  # fmt: skip
def test_odd_messages(flags: int, count: int, body: bytes, expected: list[tuple[str, str]]) -> None:
    data = struct.pack(">6H", 0, flags, 0, count, 0, 0) + body
    assert list(message.beacons(data)) == expected


@pytest.mark.parametrize(
    ("data", "answered"),
    [
        (message.QUESTION, True),
        (query((message.SERVICE, 12)), True),
        (query((message.SERVICE.upper(), 255)), True),
        (query((f"{NAME}.{message.SERVICE}", 33)), True),
        (query((f"{NAME}.{message.SERVICE}", 16)), True),
        (query((f"{NAME}.local", 1)), True),
        (query((f"{NAME}.local", 28)), True),
        (query(("_http._tcp.local", 12), (message.SERVICE, 12)), True),
        (query((message.SERVICE, 12), known=pointer(OTHER, 4500)), True),
        (query((message.SERVICE, 12), known=pointer(NAME, 2000)), True),
        (query((message.SERVICE, 12), (f"{NAME}.local", 1), known=pointer(NAME, 4500)), True),
        (query((message.SERVICE, 12), known=pointer(NAME, 4500)), False),
        (query((message.SERVICE, 16)), False),
        (query((f"{OTHER}.local", 1)), False),
        (query((message.SERVICE, 12), flags=message.RESPONSE), False),
        (query((message.SERVICE, 12), flags=0x0800), False),
        (message.QUESTION[:-1], False),
        (message.records(saying())[0], False),
        (b"", False),
    ],
    ids=lambda value: repr(value)[-50:],
)
def test_what_is_answered(data: bytes, answered: bool) -> None:
    assert message.asks(data, NAME) is answered


@given(
    st.binary(max_size=600)
    | st.binary(max_size=300).map(lambda tail: message.records(saying())[0] + tail)
    | st.binary(max_size=300).map(lambda tail: query((message.SERVICE, 12), known=tail))
)
def test_no_message_raises(data: bytes) -> None:
    for instance, beacon in message.beacons(data):
        assert len(instance) == len(NAME) and len(beacon) <= len(data)
    message.asks(data, NAME)


@given(st.data())
def test_no_damage_raises(data: st.DataObject) -> None:
    packet = bytearray(message.records(saying())[0])
    for place in data.draw(st.lists(st.integers(0, len(packet) - 1), max_size=8)):
        packet[place] = data.draw(st.integers(0, 255))
    assert len(list(message.beacons(bytes(packet)))) <= 4
    message.asks(bytes(packet), NAME)


def test_a_name_of_pointers_is_read_in_few_steps() -> None:
    """Each of 64 questions points into a chain of 4000 pointers."""
    chain = b"".join(struct.pack(">H", 0xC000 | 12 + max(0, 2 * n - 2)) for n in range(4000))
    data = b"\0\0\0\0\1\0\0\0\0\0\0\0" + chain + b"\xc0\xff\0\1\0\1" * 64
    reads = 0

    class Counting(bytes):
        def __getitem__(self, key: Any) -> Any:
            nonlocal reads
            reads += 1
            return super().__getitem__(key)

    assert not message.asks(Counting(data), NAME)
    assert reads < 64 * 40


def test_nothing_reaches_the_library() -> None:
    """zeroconf remembers what it reads, in old versions without a bound: it only writes here."""
    used = set()
    for path in Path(nodeagent.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zeroconf"):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.startswith("zeroconf")]
    assert used == {"DNSOutgoing", "ServiceInfo"}


class Group:
    """A double of a socket of the group, on a clock of its own: what the packets are in and out."""

    def __init__(self, where: Link) -> None:
        self.link, self.pace = where, Pace()
        self.sent: list[bytes] = []
        self.came: list[tuple[bytes, str]] = []
        self.closed = False

    def packets(self) -> Iterator[tuple[bytes, str]]:
        came, self.came = self.came, []
        return iter(came)

    def send(self, packets: list[bytes]) -> None:
        self.sent += packets

    def close(self) -> None:
        self.closed = True


class Clock:
    """A double of time and of select(2): nothing here really takes time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.groups: list[Group] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9 + self.now

    def select(
        self, reading: list[Group], _: object, __: object, wait: float
    ) -> tuple[list[Group], object, object]:
        ready = [one for one in reading if one.came]
        self.now += 0.0 if ready else wait
        return ready, [], []

    def open(self, where: Link) -> Group:
        self.groups.append(Group(where))
        return self.groups[-1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for name_, double in (("time", made), ("select", made), ("GroupSocket", made.open)):
        monkeypatch.setattr(discovery, name_, double)
    monkeypatch.setattr(discovery, "links", lambda interfaces, address: (HERE,))
    monkeypatch.setattr(Link, "has_carrier", True)
    return made


def test_news_are_said_twice_and_the_end_once(clock: Clock) -> None:
    one = Discovery()
    one.announce(saying())
    one.run(10)
    (group,) = clock.groups
    (packet,) = message.records(saying())
    assert [sent for sent in group.sent if sent != message.QUESTION] == [packet] * 2
    assert group.sent.count(message.QUESTION) == 3, "at once, after 1 and 4 seconds"
    one.announce(saying())
    one.run(10)
    assert group.sent.count(packet) == 2, "nothing new"
    one.announce(saying(beacon="new"))
    one.run(3)
    assert group.sent.count(message.records(saying(beacon="new"))[0]) == 2
    one.announce(saying(OTHER))
    assert group.sent[-1] == message.records(saying(beacon="new"), 0)[0], "of the name before"
    one.close()
    assert group.sent[-1] == message.records(saying(OTHER), 0)[0] and group.closed


def test_however_often_somebody_asks_it_is_answered_once_a_second(clock: Clock) -> None:
    one = Discovery()
    one.announce(saying())
    one.run(5)
    (group,) = clock.groups
    group.sent.clear()
    for _ in range(100):
        group.came += [(query((f"{NAME}.local", 1)), "10.77.0.9")] * 9
        one.run(0.1)
    assert 9 <= group.sent.count(message.records(saying())[0]) <= 11


def test_it_is_found_in_a_question_for_many_services(clock: Clock) -> None:
    """A browser of all services puts them into one message, `_tcp.local` in full only once."""
    both = name("_http._tcp.local") + struct.pack(">2H", 12, 1)
    both += message.MARK + b"\xc0\x12" + struct.pack(">2H", 12, 1)
    one = Discovery()
    one.announce(saying())
    one.run(5)
    (group,) = clock.groups
    group.sent.clear()
    group.came = [(struct.pack(">6H", 0, 0, 2, 0, 0, 0) + both, "10.77.0.9")]
    one.run(1)
    assert group.sent == message.records(saying())


def test_the_own_echo_is_noted_and_its_record_is_no_candidate(clock: Clock) -> None:
    one = Discovery()
    one.announce(saying())
    (group,) = clock.groups
    group.came = [(message.records(saying())[0], HERE.address)]
    one.run(1)
    assert one.own_heard == 1_700_001_000 and one.changed and not one.candidates
    group.came = [(message.records(saying(OTHER))[0], "10.77.0.9")]
    one.run(1)
    assert [(c.address, c.port, c.beacon) for c in one.candidates] == [("10.77.0.9", 6444, "abc")]


def test_pace() -> None:
    pace = Pace()
    assert not pace.is_due(5.0)
    pace.asked(5.0)
    assert pace.due is not None and JITTER[0] <= pace.due - 5.0 <= JITTER[1]
    assert pace.is_due(5.2) and not pace.is_due(9.0)
    pace.asked(5.3)
    assert pace.due == 6.2, "a second after the last time"
    pace.news(5.4)
    assert pace.is_due(5.4) and not pace.is_due(6.3) and pace.is_due(6.4) and pace.due is None


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
