"""The search for a control plane that gives a grant: bounded, fair, and one question at a time."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from nodeagent.agent import main as agent
from nodeagent.errors import CommandFailed, NoControlPlane
from nodeagent.join import search
from nodeagent.join.messages import Grant
from nodeagent.join.search import No, Search
from nodeagent.serve.retry_after import LEAST, MOST, RETURNS, WINDOW, Crowd

GRANT = cast(Grant, object())


class Searching(Search[Grant]):
    """The real search on doubles of TLS sessions: an address is what its server does."""

    def __init__(self, places: list[str], exchange: Callable[[Any], Grant]) -> None:
        super().__init__(cast(Any, None), "name", [(place, 1) for place in places], exchange)
        self.opened: list[str] = []
        self.silence: Callable[[], object] = lambda: time.sleep(0.05)

    @contextlib.contextmanager
    def _session(self, address: str, port: int) -> Iterator[Any]:
        self.opened.append(address)
        if address.startswith("silent"):
            self.silence()
            raise TimeoutError
        here, there = socket.socketpair()
        with here, there:
            yield here


def give(session: Any) -> Grant:
    """The exchange that succeeds."""
    return GRANT


def test_only_one_control_plane_is_asked_at_a_time() -> None:
    asked = []

    def exchange(session: Any) -> Grant:
        asked.append(threading.current_thread())
        while len(looking.opened) < 8:  # all the others are proved meanwhile
            time.sleep(0.01)
        return GRANT

    looking = Searching([f"true{n}" for n in range(8)], exchange)
    assert looking.run() is GRANT
    assert len(asked) == 1, "a second grant ends the first one's token"


def test_silent_ones_are_waited_for_side_by_side() -> None:
    looking = Searching([f"silent{n}" for n in range(2 * search.PARALLEL)], give)
    looking.silence = threading.Barrier(search.PARALLEL, timeout=60).wait
    assert looking.run() is None
    assert len(looking.failures) == 2 * search.PARALLEL


def test_the_order_is_by_lot() -> None:
    first = {Searching([str(n) for n in range(10)], give)._places[0] for _ in range(200)}
    assert len(first) > 5


def test_a_refusal_leads_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PARALLEL", 1)  # a failure is noted after its turn
    asked: list[int] = []

    def exchange(session: Any) -> Grant:
        asked.append(1)
        if len(asked) < 3:
            raise No("it refused", 7)
        return GRANT

    looking = Searching(["a", "b", "c", "d"], exchange)
    assert looking.run() is GRANT
    assert [getattr(error, "wait", 0) for _, error in looking.failures] == [7, 7]


def test_when_time_is_up_no_other_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BOUND", 0.08)
    looking = Searching([f"silent{n}" for n in range(10 * search.PARALLEL)], give)
    assert looking.run() is None
    assert len(looking.opened) <= 3 * search.PARALLEL


def test_a_fault_of_ours_is_shown() -> None:
    def exchange(session: Any) -> Grant:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Searching(["a"], exchange).run()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 2000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"a" * 99,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 2000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
    ],
    ids=["headers", "body", "chunks", "interim"],
)
def test_an_answer_that_does_not_end_is_ended(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ANSWER", 0.3)
    here, there = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for place in range(0, len(said), 4):
                there.sendall(said[place : place + 4])
                if over.wait(0.01):
                    return
            over.wait(10)

    def exchange(session: http.client.HTTPConnection) -> Grant:
        session.request("GET", "/v1/nonce")
        session.getresponse().read(128)
        return GRANT

    class One(Searching):
        @contextlib.contextmanager
        def _session(self, address: str, port: int) -> Iterator[Any]:
            yield here

    thread = threading.Thread(target=drip)
    thread.start()
    with here, there:
        looking = One(["a"], exchange)
        assert looking.run() is None
        ((_, error),) = looking.failures
        assert isinstance(error, TimeoutError)
        over.set()
        thread.join(10)


def test_the_more_are_turned_away_the_later_they_come_again() -> None:
    crowd = Crowd()
    waits = [crowd.turn_away(f"10.77.{n // 250}.{n % 250}", 100.0) for n in range(5000)]
    assert waits[0] == LEAST
    assert waits == sorted(waits)
    assert waits[-1] == MOST
    assert waits[RETURNS * 10 - 1] == 10, "so many a second come again"
    assert crowd.turn_away("10.77.0.1", 100.0 + WINDOW + 1) == LEAST


def test_one_address_makes_nobody_else_wait() -> None:
    crowd = Crowd()
    for _ in range(5000):
        crowd.turn_away("10.77.0.66", 100.0)
    assert crowd.turn_away("10.77.0.12", 100.0) == LEAST


def test_nodes_turned_away_together_do_not_come_back_together() -> None:
    told = NoControlPlane("It is full.", "Wait.", wait=20)
    pauses = {agent.pause(told, 9) for _ in range(100)}
    assert len(pauses) > 90
    assert min(pauses) >= 10 and max(pauses) <= 30
    untold = [agent.pause(NoControlPlane("", ""), 9) for _ in range(100)]
    assert max(untold) <= 1.5 * agent.JOIN_PAUSE, "a try is cheap"
    assert max(agent.pause(CommandFailed("", ""), 9) for _ in range(100)) > agent.JOIN_PAUSE * 1.5
