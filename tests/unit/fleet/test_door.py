"""The door: what is bounded, and what a request may look like."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from nodeagent.fleet import door
from nodeagent.fleet.door import Door, Refusal, read_request

OK = (
    b"POST /v1/grant HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    ("POST", "/v1/grant", b"hello"),
)


def given(data: bytes) -> tuple[str, str, bytes] | None:
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
    assert given(b"GET / HTTP/1.1\r\n\r\n") == ("GET", "/", b"")
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
    monkeypatch.setattr(door, "PATIENCE", 0.2)
    here, there = socket.socketpair()
    with here, there, pytest.raises(TimeoutError):
        here.sendall(b"GET / HT")
        read_request(there)


@pytest.mark.network
def test_one_address_gets_a_share_only() -> None:
    hold, served = threading.Event(), threading.Semaphore(0)

    def handle(connection: socket.socket, address: str) -> None:
        served.release()
        hold.wait(10)

    opened = Door("127.0.0.1", 0, handle)
    port = opened._socket.getsockname()[1]
    clients = [socket.create_connection(("127.0.0.1", port), 2) for _ in range(12)]
    try:
        for _ in range(door.MAX_PER_ADDRESS):
            assert served.acquire(timeout=5)
        assert not served.acquire(timeout=0.3), "more than its share"
        hold.set()
    finally:
        for client in clients:
            client.close()
        opened.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
