"""A small TCP door that strangers may knock at: bounded connections, threads, time and bytes.

The TLS handshake is the connection's own thread's work, never the accept loop's: one silent
client must not keep others out.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

LOG = logging.getLogger("nodeagent")

MAX_CONNECTIONS = 64
MAX_PER_ADDRESS = 8
PATIENCE = 5.0  # seconds for a handshake, and again for a request
MAX_HEAD = 4096
MAX_BODY = 16 * 1024

Handle = Callable[[socket.socket, str], None]


class Refusal(Exception):
    """Answer with this HTTP status (RFC 9110 15) and sentence, and close."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Door:
    """Accepts connections on one address; ``handle`` serves each in a thread of its own."""

    def __init__(self, address: str, port: int, handle: Handle) -> None:
        """Raises OSError where the address or port cannot be had."""
        self.where = (address, port)
        self._handle = handle
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, port), family=family, backlog=MAX_CONNECTIONS)
        threading.Thread(target=self._accept, name=f"door-{port}", daemon=True).start()

    def close(self) -> None:
        """Accept no more; connections that are open end by themselves."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept(2)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._socket.accept()
            except OSError as error:
                if self._socket.fileno() < 0 or error.errno == 22:  # EINVAL: was shut down
                    return
                time.sleep(0.2)  # out of descriptors: others must end first
                continue
            address = str(peer[0])
            with self._lock:
                full = sum(self._open.values()) >= MAX_CONNECTIONS
                if full or self._open[address] >= MAX_PER_ADDRESS:
                    connection.close()
                    continue
                self._open[address] += 1
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            with connection:
                connection.settimeout(PATIENCE)
                self._handle(connection, address)
        except OSError as error:  # also ssl.SSLError and TimeoutError
            LOG.debug("%s: %s", address, error)
        finally:
            with self._lock:
                self._open[address] -= 1
                if not self._open[address]:
                    del self._open[address]


def read_request(connection: socket.socket) -> tuple[str, str, bytes] | None:
    """One HTTP/1.1 request (RFC 9112): method, path, body; None where the peer is done.

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
        raise Refusal(400, "This is no HTTP/1.1 request.")
    fields = [line.partition(":") for line in lines[1:]]
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    if len(headers) != len(fields) or "transfer-encoding" in headers:
        raise Refusal(400, "This header is not understood here.")
    length_text = headers.get("content-length", "0")
    if not length_text.isdecimal() or len(length_text) > 9:
        raise Refusal(400, "The length is no number.")
    length = int(length_text)
    if length > MAX_BODY or len(body) > length:
        raise Refusal(413, f"At most {MAX_BODY} bytes are taken.")
    while len(body) < length:
        piece = _receive(connection, deadline)
        if not piece:
            raise Refusal(400, "The body ended early.")
        body += piece
    return words[0], words[1], body[:length]


def _receive(connection: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the request took too long")
    connection.settimeout(left)
    return connection.recv(4096)


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
