"""The status over HTTP on port 6480 (RFC 9110): ``/`` for people, ``/status.json`` for scripts,
``/metrics`` for Prometheus. Read only; nothing here is a secret.

Yet it is for the LAN: a page of the Internet that somebody here has open can have its own name
point to this node (DNS rebinding), and would then read it through their browser. So only requests
for one of the node's own names and addresses are answered (RFC 9110, 7.4 and 15.5.20)."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time

from nodeagent import paths
from nodeagent.errors import OtherVersion
from nodeagent.host.host import Host
from nodeagent.serve.connections import BoundedServer, Connection
from nodeagent.serve.http1 import Refusal, answer, read_request, refuse
from nodeagent.status import html, metrics, model

LOG = logging.getLogger("nodeagent")

PORT = html.PORT
PLACES, SHARE = 16, 8  # connections in all, from one address
QUIET = 60.0  # seconds between two words in the log about strangers' names
FRESH = 1.0  # seconds for which one rendering serves everybody
HTML = "text/html; charset=utf-8"
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")  # RFC 9110, 7.2; IPv4 only


class StatusPage:
    """Open from construction to ``close``."""

    def __init__(self, host: Host, address: str, port: int = PORT) -> None:
        """Raises OSError."""
        self._host = host
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._told = -QUIET
        self._door = BoundedServer(address, port, self._serve, places=PLACES, share=SHARE)

    def close(self) -> None:
        """Accept no more connections."""
        self._door.close()

    def _serve(self, connection: socket.socket, visit: Connection) -> None:
        try:
            request = read_request(connection)
            if request is None:
                return
            self._check_host(request.host, connection.getsockname()[0], visit.address)
            if request.method != "GET" or request.path not in KINDS:
                raise Refusal(404, f"This port serves only GET of {', '.join(KINDS)}.")
        except Refusal as refusal:
            refuse(connection, refusal)
            return
        body = self._body(request.path)
        answer(connection, 200, KINDS[request.path], body, False, html.HEADERS)

    def _check_host(self, asked: str, here: str, peer: str) -> None:
        """Raises Refusal where ``asked``, the Host field, is none of this node's; ``here`` is the
        address of this node that the connection came to, ``peer`` who made it."""
        named = _HOST.fullmatch(asked)
        if named and named[1].lower().removesuffix(".") in {here, *names(self._host)}:
            return
        if time.monotonic() - self._told > QUIET:
            self._told = time.monotonic()
            LOG.warning("status page: %s asked for %r, not for this node", peer, asked[:80])
        raise Refusal(
            421,
            "This node does not go by the name in that address. Use its IP address, or its host"
            " name, alone or with .local.",
        )

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


def names(host: Host) -> set[str]:
    """What this node goes by on its LAN: its name and its id, alone, with .local, and in the
    domain that the network told it (resolv.conf(5)); at the end of a tunnel, localhost."""
    own = {(host.text(paths.HOSTNAME) or "").strip()}
    with contextlib.suppress(ValueError, OtherVersion):  # none yet, or half a one
        status = model.parse(host.read(paths.STATUS) or b"")
        own |= {str(status["node_name"]), str(status["node_id"])}
    lines = [line.split() for line in (host.text(paths.RESOLV_CONF) or "").splitlines()]
    domains = [one for line in lines if line[:1] in (["search"], ["domain"]) for one in line[1:]]
    found = {"localhost", "127.0.0.1"}
    for name in own - {""}:
        short = name.partition(".")[0]
        found |= {name, short, *(f"{short}.{one.strip('.')}" for one in ("local", *domains))}
    return {name.lower() for name in found}


KINDS = {"/": HTML, "/status.json": "application/json", "/metrics": metrics.KIND}


def render(path: str, data: bytes | None) -> bytes:
    """What is at ``path`` for a status file's content."""
    if path == "/metrics":
        return metrics.render(data, time.time())
    if path == "/status.json":
        return data or b"null"
    return html.render(data)
