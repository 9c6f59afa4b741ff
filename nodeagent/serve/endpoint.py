"""The endpoint of a control plane: HTTPS on port 6444, where nodes of the fleet ask for grants.

``GET /v1/nonce`` gives a nonce, ``POST /v1/grant`` takes a signed request and gives a signed
grant, ``POST /v1/leave`` takes a node's signed farewell, ``POST /v1/cluster`` takes a nonce and
tells which cluster this is, signed with it (``join/which_cluster.py``); ``GET /v1/cluster`` tells
the same unsigned, for nodeagent 0.2.0. The client
must have a certificate of the fleet; what it asks is the broker's to judge, and nothing of it is
looked at here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nodeagent.errors import OtherVersion
from nodeagent.join import broker_protocol
from nodeagent.serve.connections import BoundedServer, Connection
from nodeagent.serve.http1 import Refusal, answer, read_request, refuse
from nodeagent.serve.retry_after import Crowd
from nodeagent.trust import tls, wire

MAX_REQUESTS = 2  # on one connection: a nonce, a grant
# The broker takes one caller after the other and lets 16 wait (listen(2)); more are turned away.
AT_THE_BROKER = 8
SHARE = 2  # of them for one address, waiting ones included; a node asks one thing at a time
QUEUE = 15.0  # seconds to wait for a turn there


@dataclass(frozen=True)
class Files:
    """Paths of the server's certificate chain, its key, and the fleet's root certificate."""

    cert: str
    key: str
    root: str


class Endpoint:
    """Open from construction to ``close``."""

    def __init__(
        self, address: str, port: int, files: Files, broker: str = broker_protocol.SOCKET
    ) -> None:
        """Raises OSError, ssl.SSLError."""
        self._context = tls.server(files.cert, files.key, files.root)
        self._broker = broker
        self._turns = Turns(AT_THE_BROKER, SHARE)
        self._crowd = Crowd()
        self._cluster = Path(files.cert).with_name("cluster.json")
        self._door = BoundedServer(address, port, self._serve)

    def close(self) -> None:
        """Accept no more connections."""
        self._door.close()

    def _serve(self, connection: socket.socket, visit: Connection) -> None:
        with self._context.wrap_socket(connection, server_side=True) as session:
            for left in reversed(range(MAX_REQUESTS)):
                visit.peers_turn()
                try:
                    request = read_request(session)
                    if request is None:
                        return
                    visit.our_turn()
                    kind, body = self._answer(*request[:3], visit.address)
                except Refusal as refusal:
                    refuse(session, refusal)
                    return
                answer(session, 200, kind, body, more=left > 0)
            with contextlib.suppress(OSError, ssl.SSLError):
                session.unwrap()

    def _answer(self, method: str, path: str, body: bytes, address: str) -> tuple[str, bytes]:
        if (method, path) == ("GET", "/v1/nonce"):
            return "text/plain", self._ask({"op": "nonce"}, "nonce", address)
        if (method, path) == ("POST", "/v1/grant"):
            message = {"op": "grant", "request": _text(body), "source": address}
            return "application/jose", self._ask(message, "grant", address)
        if (method, path) == ("POST", "/v1/leave"):
            said = {"op": "leave", "said": _text(body)}
            return "text/plain", self._ask(said, "left", address)
        if (method, path) == ("POST", "/v1/cluster"):
            which = {"op": "cluster", "nonce": _text(body)}
            return "application/jose", self._ask(which, "cluster", address)
        if (method, path) == ("GET", "/v1/cluster"):
            try:
                return "application/json", self._cluster.read_bytes()
            except OSError as error:
                raise Refusal(503, "The agent has not told of its cluster yet.") from error
        raise Refusal(404, "There is GET /v1/nonce and /v1/cluster, POST /v1/grant and /v1/leave.")

    def _ask(self, message: dict[str, str], wanted: str, address: str) -> bytes:
        """What the broker says. Raises Refusal."""
        if not self._turns.take(address, QUEUE):
            wait = self._crowd.turn_away(address)
            raise Refusal(503, "Many nodes are asking; ask again later.", wait)
        try:
            said = broker_protocol.call(self._broker, message)
        except OtherVersion as error:
            raise Refusal(broker_protocol.OTHER_VERSION, error.reason) from error
        except (OSError, wire.Malformed) as error:
            raise Refusal(503, "The broker of this control plane does not answer.") from error
        finally:
            self._turns.give(address)
        if isinstance(said, dict) and isinstance(said.get(wanted), str):
            return str(said[wanted]).encode()
        if isinstance(said, dict) and type(said.get("status")) is int and "error" in said:
            busy = said["status"] == 503
            wait = self._crowd.turn_away(address) if busy else 0
            raise Refusal(said["status"], str(said["error"])[:300], wait)
        raise Refusal(502, "The broker's answer was not understood.")


class Turns:
    """So many at a time, and of each address at most a share, waiting ones included."""

    def __init__(self, places: int, share: int) -> None:
        self._places, self._share = threading.BoundedSemaphore(places), share
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, address: str, patience: float) -> bool:
        """Wait for a turn, at most so many seconds; False where there is none."""
        with self._lock:
            if self._held[address] >= self._share:
                return False
            self._held[address] += 1
        if self._places.acquire(timeout=patience):
            return True
        self._leave(address)
        return False

    def give(self, address: str) -> None:
        """The turn is over."""
        self._places.release()
        self._leave(address)

    def _leave(self, address: str) -> None:
        with self._lock:
            self._held[address] -= 1
            self._held += Counter()  # drops those that hold none


def _text(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise Refusal(400, "A signed message is ASCII text.") from error
