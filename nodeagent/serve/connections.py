"""Bounded TCP server for untrusted clients: connections, threads and time are limited.

The TLS handshake is the connection's own thread's work, never the accept loop's: one silent
client must not keep others out. Where all places are taken, a connection on which we wait for the
peer gives way: first one of the address that holds most, then one that has had time enough.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

LOG = logging.getLogger("nodeagent")

PLACES, SHARE = 64, 8  # connections in all, from one address
PATIENCE = 5.0  # seconds for a handshake
GRACE = 1.5  # seconds for a handshake or a request, where others want the place
LIFE = 60.0  # seconds of a connection in all; a request waits for the broker meanwhile
TICK = 1.0  # seconds between looks for those that are over
LEAVING = 16  # threads that may still be on their way out


@dataclass(eq=False)
class Connection:
    """One connection from ``address``. ``waits_since`` is when we began to wait for the peer, None
    while it waits for us."""

    address: str
    handle: socket.socket = field(repr=False)  # a second one, with which it can be ended
    born: float = field(default_factory=time.monotonic)
    waits_since: float | None = field(default_factory=time.monotonic)

    def peers_turn(self) -> None:
        """A handshake or a request is expected."""
        self.waits_since = time.monotonic()

    def our_turn(self) -> None:
        """A request is there: nobody takes the place of whoever waits for its answer."""
        self.waits_since = None

    def end(self) -> None:
        """Wake its thread, which finds the connection closed."""
        with contextlib.suppress(OSError):
            self.handle.shutdown(socket.SHUT_RDWR)


Serve = Callable[[socket.socket, Connection], None]


class BoundedServer:
    """Accepts connections on one address; ``serve`` does each in a thread of its own.

    At most ``places`` at a time, ``share`` of them from one address.
    """

    def __init__(
        self, address: str, port: int, serve: Serve, *, places: int = PLACES, share: int = SHARE
    ) -> None:
        """Raises OSError where the address or port cannot be had."""
        self._serve, self._places, self._share = serve, places, share
        self._visits: list[Connection] = []
        self._threads = 0
        self._lock = threading.Lock()
        self._closed = False
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, port), family=family, backlog=2 * places)
        self._socket.settimeout(TICK)
        threading.Thread(target=self._accept, name=f"door-{port}", daemon=True).start()

    @property
    def port(self) -> int:
        """The port it has, where 0 was asked for."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Accept no more; connections that are open end by themselves."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept(2)
        self._socket.close()

    def _accept(self) -> None:
        looked = time.monotonic()
        while not self._closed:
            if time.monotonic() - looked > TICK:
                looked = time.monotonic()
                self._end_overdue(looked)
            try:
                connection, peer = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                if not self._closed:
                    time.sleep(0.2)  # out of descriptors: others must end first
                continue
            try:
                visit = self._admit(connection, str(peer[0]))
            except OSError:  # out of descriptors
                visit = None
            if visit is None:
                connection.close()
                continue
            try:
                thread = threading.Thread(target=self._run, args=(connection, visit), daemon=True)
                thread.start()
            except RuntimeError as error:  # out of threads
                LOG.debug("a connection could not be served: %s", error)
                connection.close()
                self._leave(visit)

    def _admit(self, connection: socket.socket, address: str) -> Connection | None:
        """A place for it, or None. Raises OSError."""
        with self._lock:
            if (
                sum(visit.address == address for visit in self._visits) >= self._share
                or self._threads >= self._places + LEAVING
            ):
                return None
            if len(self._visits) >= self._places:
                other = who_gives_way(self._visits, time.monotonic())
                if other is None:
                    return None
                self._visits.remove(other)
                other.end()
            visit = Connection(address, connection.dup())
            self._visits.append(visit)
            self._threads += 1
            return visit

    def _end_overdue(self, now: float) -> None:
        with self._lock:
            for visit in self._visits:
                if now - visit.born > LIFE:
                    visit.end()

    def _run(self, connection: socket.socket, visit: Connection) -> None:
        try:
            with connection:
                connection.settimeout(PATIENCE)
                self._serve(connection, visit)
        except OSError as error:  # also ssl.SSLError and TimeoutError
            LOG.debug("%s: %s", visit.address, error)
        finally:
            self._leave(visit)

    def _leave(self, visit: Connection) -> None:
        with self._lock:
            self._threads -= 1
            if visit in self._visits:
                self._visits.remove(visit)
            visit.handle.close()


def who_gives_way(visits: list[Connection], now: float) -> Connection | None:
    """Whose place goes to a newcomer; None where everybody has a right to stay."""
    idle = {visit: since for visit in visits if (since := visit.waits_since) is not None}
    held = Counter(visit.address for visit in idle)
    most = max(held.values(), default=0)
    for visit, since in idle.items():  # oldest first
        if held[visit.address] == most and (most > 1 or now - since > GRACE):
            return visit
    return None
