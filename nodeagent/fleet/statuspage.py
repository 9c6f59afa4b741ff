"""The status page: what ``nodeagent status`` says, as plain HTML on port 6480 (RFC 9110)."""

from __future__ import annotations

import html
import socket

from nodeagent import status, statustext
from nodeagent.fleet.door import Door, Refusal, answer, read_request
from nodeagent.host.host import Host

PORT = 6480
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body><pre>{text}</pre></body></html>
"""


def render(data: bytes | None) -> bytes:
    """The page for a status file's content."""
    try:
        text = statustext.render(status.parse(data or b""))
    except (ValueError, KeyError, TypeError):
        text = "nodeagent is starting; there is no status yet.\n"
    title = html.escape(text.partition("\n")[0][:80])
    return _PAGE.format(title=title, text=html.escape(text)).encode()


class StatusPage:
    """Open from construction to ``close``."""

    def __init__(self, host: Host, address: str, port: int = PORT) -> None:
        """Raises OSError."""
        self._host = host
        self._door = Door(address, port, self._serve)

    def close(self) -> None:
        """Accept no more connections."""
        self._door.close()

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            request = read_request(connection)
            if request is None:
                return
            if request[:2] != ("GET", "/"):
                raise Refusal(404, "There is only this node's status, at /.")
        except Refusal as refusal:
            answer(connection, refusal.status, "text/plain", refusal.reason.encode(), False)
            return
        page = render(self._host.read(status.PATH))
        answer(connection, 200, "text/html; charset=utf-8", page, False)
