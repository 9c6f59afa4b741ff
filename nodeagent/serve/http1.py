"""HTTP/1.1 requests (RFC 9110, RFC 9112), one at a time, of bounded size and in bounded time."""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

PATIENCE = 5.0  # seconds for a request, and again for its answer
MAX_HEAD = 4096
MAX_BODY = 16 * 1024


class Refusal(Exception):
    """Answer with this HTTP status (RFC 9110 15) and sentence, and close. ``wait``: seconds after
    which to ask again, 0 to say nothing about it."""

    def __init__(self, status: int, reason: str, wait: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.wait = wait


class Request(NamedTuple):
    """``host`` is the Host field as it came, empty where there was none."""

    method: str
    path: str
    body: bytes
    host: str


def read_request(connection: socket.socket) -> Request | None:
    """One HTTP/1.1 request (RFC 9112); None where the peer is done.

    Raises Refusal for what is not understood or too long, OSError.
    """
    deadline = time.monotonic() + PATIENCE
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > MAX_HEAD:
            raise Refusal(431, "The header is too long.")
        piece = _receive(connection, deadline)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refusal(400, "This is not an HTTP/1.1 request.")
    fields = [line.partition(":") for line in lines[1:]]
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    if len(headers) != len(fields) or "transfer-encoding" in headers:
        raise Refusal(400, "This header is not understood here.")
    length_text = headers.get("content-length", "0")
    if not length_text.isdecimal() or len(length_text) > 9:
        raise Refusal(400, "The length is not a number.")
    length = int(length_text)
    if length > MAX_BODY or len(body) > length:
        raise Refusal(413, f"At most {MAX_BODY} bytes are accepted.")
    while len(body) < length:
        piece = _receive(connection, deadline)
        if not piece:
            raise Refusal(400, "The body ended early.")
        body += piece
    return Request(words[0], words[1], body[:length], headers.get("host", ""))


def _receive(connection: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the request took too long")
    connection.settimeout(left)
    return connection.recv(4096)


def refuse(connection: socket.socket, refusal: Refusal) -> None:
    """Send a refusal; the connection is to be closed then. Raises OSError."""
    extra = f"Retry-After: {refusal.wait}\r\n" if refusal.wait else ""  # RFC 9110 10.2.3
    answer(connection, refusal.status, "text/plain", refusal.reason.encode(), False, extra)


def answer(
    connection: socket.socket, status: int, kind: str, body: bytes, more: bool, extra: str = ""
) -> None:
    """Send an HTTP response; ``more`` keeps the connection open. ``extra``: whole header lines.
    Raises OSError."""
    head = (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{extra}"
        f"Connection: {'keep-alive' if more else 'close'}\r\n\r\n"
    )
    connection.settimeout(PATIENCE)
    connection.sendall(head.encode("latin-1") + body)
