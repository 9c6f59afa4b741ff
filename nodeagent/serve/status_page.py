"""The status over HTTP on port 6480 (RFC 9110): ``/`` for people, ``/status.json`` for scripts,
``/metrics`` for Prometheus. Read only; nothing here is a secret."""

from __future__ import annotations

import socket
import threading
import time

from nodeagent import paths
from nodeagent.host.host import Host
from nodeagent.serve.connections import BoundedServer, Connection
from nodeagent.serve.http1 import Refusal, answer, read_request, refuse
from nodeagent.status import html, metrics

PORT = html.PORT
PLACES, SHARE = 16, 8  # connections in all, from one address
FRESH = 1.0  # seconds for which one rendering serves everybody
HTML = "text/html; charset=utf-8"


class StatusPage:
    """Open from construction to ``close``."""

    def __init__(self, host: Host, address: str, port: int = PORT) -> None:
        """Raises OSError."""
        self._host = host
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._door = BoundedServer(address, port, self._serve, places=PLACES, share=SHARE)

    def close(self) -> None:
        """Accept no more connections."""
        self._door.close()

    def _serve(self, connection: socket.socket, visit: Connection) -> None:
        try:
            request = read_request(connection)
            if request is None:
                return
            if request[0] != "GET" or request[1] not in KINDS:
                raise Refusal(404, f"This port serves only GET of {', '.join(KINDS)}.")
        except Refusal as refusal:
            refuse(connection, refusal)
            return
        body = self._body(request[1])
        answer(connection, 200, KINDS[request[1]], body, False, html.HEADERS)

    def _body(self, path: str) -> bytes:
        """The body, made at most once a second however many ask."""
        with self._lock:
            now = time.monotonic()
            made, body = self._kept.get(path, (-FRESH, b""))
            if now - made >= FRESH or now < made:
                data = self._host.read(paths.STATUS)
                body = render(path, data)
                self._kept[path] = (now, body)
            return body


KINDS = {"/": HTML, "/status.json": "application/json", "/metrics": metrics.KIND}


def render(path: str, data: bytes | None) -> bytes:
    """What is at ``path`` for a status file's content."""
    if path == "/metrics":
        return metrics.render(data, time.time())
    if path == "/status.json":
        return data or b"null"
    return html.render(data)
