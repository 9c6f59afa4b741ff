"""The door: what is bounded, and what a request may look like."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from nodeagent.serve import connections, http1
from nodeagent.serve.connections import BoundedServer, Connection, who_gives_way
from nodeagent.serve.endpoint import Turns
from nodeagent.serve.http1 import Refusal, Request, read_request

OK = (
    b"POST /v1/grant HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    ("POST", "/v1/grant", b"hello", "x"),
)


def given(data: bytes) -> Request | None:
    """What is understood of a request that ends with ``data``."""
    here, there = socket.socketpair()
    with here, there:
        thread = threading.Thread(target=_say, args=(here, data))
        thread.start()
        try:
            return read_request(there)
        finally:
            there.close()
            thread.join(10)


def _say(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # whoever refuses does not read to the end
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def test_a_request_is_read() -> None:
    assert given(OK[0]) == OK[1]
    assert given(b"GET / HTTP/1.1\r\n\r\n") == ("GET", "/", b"", "")
    assert given(b"") is None
    assert given(b"GET / HT") is None


@pytest.mark.parametrize(
    ("data", "status_code"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2000 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 20000\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhello", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\nhe", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_odd_request_is_refused(data: bytes, status_code: int) -> None:
    with pytest.raises(Refusal) as refused:
        given(data)
    assert refused.value.status == status_code


def test_a_slow_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "PATIENCE", 0.2)
    here, there = socket.socketpair()
    with here, there, pytest.raises(TimeoutError):
        here.sendall(b"GET / HT")
        read_request(there)


class Guests:
    """A double of what serves: each connection stays until it is ended, or all are let go."""

    def __init__(self, at_work: bool = False) -> None:
        self.at_work, self.let_go = at_work, threading.Event()
        self.came: list[Connection] = []
        self.served = threading.Semaphore(0)

    def __call__(self, connection: socket.socket, visit: Connection) -> None:
        if self.at_work:
            visit.our_turn()
        self.came.append(visit)
        self.served.release()
        connection.settimeout(0.05)
        while not self.let_go.is_set():
            with contextlib.suppress(TimeoutError):
                if not connection.recv(100):
                    return


@contextlib.contextmanager
def opened(guests: Guests, places: int, share: int) -> Iterator[Callable[..., socket.socket]]:
    """A door on loopback; gives what connects to it, from one of many addresses."""
    made = BoundedServer("127.0.0.1", 0, guests, places=places, share=share)
    place, clients = ("127.0.0.1", made.port), []

    def connect(source: int = 1) -> socket.socket:
        client = socket.create_connection(place, 5, (f"127.0.0.{source}", 0))
        clients.append(client)
        return client

    try:
        yield connect
    finally:
        guests.let_go.set()
        for client in clients:
            client.close()
        made.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(place, 1)


@pytest.mark.network
def test_one_address_gets_a_share_only() -> None:
    guests = Guests()
    with opened(guests, places=16, share=4) as connect:
        clients = [connect() for _ in range(8)]
        for _ in range(4):
            assert guests.served.acquire(timeout=5)
        assert not guests.served.acquire(timeout=0.3), "more than its share"
        assert clients[7].recv(1) == b"", "turned away"
        connect(source=2)
        assert guests.served.acquire(timeout=5), "another address has a share of its own"


@pytest.mark.network
def test_a_newcomer_gets_in_though_strangers_hold_all_places() -> None:
    guests = Guests()
    with opened(guests, places=8, share=4) as connect:
        strangers = [connect(source) for source in (1, 2) for _ in range(4)]
        for _ in range(8):
            assert guests.served.acquire(timeout=5)
        for source in range(3, 9):
            connect(source)
            assert guests.served.acquire(timeout=5), "turned away for connections that idle"
        ended = [client for client in strangers if is_ended(client)]
        assert len(ended) == 6, "one gave way for each"


@pytest.mark.network
def test_who_waits_for_an_answer_stays() -> None:
    guests = Guests(at_work=True)
    with opened(guests, places=4, share=4) as connect:
        members = [connect() for _ in range(4)]
        for _ in range(4):
            assert guests.served.acquire(timeout=5)
        assert connect(source=2).recv(1) == b"", "turned away"
        assert not any(map(is_ended, members))


@pytest.mark.network
def test_no_connection_lives_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LIFE", 0.1)
    monkeypatch.setattr(connections, "TICK", 0.1)
    with opened(Guests(at_work=True), places=4, share=4) as connect:
        assert connect().recv(1) == b""


@pytest.mark.network
def test_the_door_outlives_a_lack_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    guests = Guests()
    with opened(guests, places=4, share=4) as connect:
        true_start = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")  # CPython, where TasksMax= is reached

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            for _ in range(6):
                assert connect().recv(1) == b""
        assert threading.Thread.start is true_start
        connect()
        assert guests.served.acquire(timeout=5)


def is_ended(client: socket.socket) -> bool:
    """True where the server closed the connection."""
    client.settimeout(0.3)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


NOW = 1000.0


@pytest.mark.parametrize(
    ("visits", "expected"),
    [
        ([], None),
        ([("a", None), ("a", None), ("b", None)], None),
        ([("a", 9), ("b", 8), ("b", 7)], 1),
        ([("a", None), ("b", 8), ("a", None)], 1),
        ([("a", None), ("b", 1), ("c", 1)], None),
        ([("a", 9), ("b", 1), ("b", 1)], 1),
        ([("a", 2), ("b", 1)], 0),
    ],
    ids=[
        "nobody", "all are at work", "who holds most", "who is at work does not count",
        "all are new", "most before oldest", "who had time enough",
    ],
)  # fmt: skip
def test_who_gives_way(visits: list[tuple[str, float | None]], expected: int | None) -> None:
    here, there = socket.socketpair()
    with here, there:
        given = [
            Connection(address, here, 0.0, None if age is None else NOW - age)
            for address, age in visits
        ]
        assert who_gives_way(given, NOW) is (None if expected is None else given[expected])


def test_one_address_gets_a_share_of_the_turns() -> None:
    """At the broker. Eight connections of one address held all of them, waiting for the others."""
    turns = Turns(4, 2)
    assert [turns.take("a", 0) for _ in range(4)] == [True, True, False, False]
    assert turns.take("b", 0) and turns.take("c", 0)
    assert not turns.take("d", 0.01), "all are taken"
    turns.give("a")
    assert turns.take("d", 0)
    for address in ("a", "b", "c", "d"):
        turns.give(address)
    assert not turns._held and turns.take("d", 0) and turns.take("d", 0)
