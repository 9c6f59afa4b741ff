"""Looks for a control plane that gives a grant, among candidates of which most may be hostile.

Several are tried at a time and in random order, since a hostile one costs the whole of a time-out
and nobody may be able to place himself first. But only one is asked at a time: a second grant would
end the first one's token.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Generic, TypeVar

from nodeagent.errors import OtherVersion, Untrusted
from nodeagent.trust import wire

CONNECT, HANDSHAKE = 3.0, 5.0  # seconds
ANSWER = 60.0  # seconds for all that one proved control plane says, however it says it
PARALLEL = 16  # candidates tried at a time
BOUND = 120.0  # seconds after which no further candidate is tried

T = TypeVar("T")


class No(OSError):
    """A proved control plane gave no grant; the text says why. ``wait``: seconds it asked us to
    wait, 0 for none."""

    def __init__(self, reason: str, wait: int = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class Search(Generic[T]):
    """One search for a TLS server that proves ``name`` and with which ``exchange`` succeeds.

    ``failures`` tells afterwards why nothing was found: ADDRESS:PORT, and what came of it.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        name: str,
        places: Sequence[tuple[str, int]],
        exchange: Callable[[http.client.HTTPConnection], T],
    ) -> None:
        self._context, self._name, self._exchange = context, name, exchange
        self._places = list(dict.fromkeys(places))
        random.shuffle(self._places)
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._end = time.monotonic() + BOUND
        self.failures: list[tuple[str, Exception]] = []

    def run(self) -> T | None:
        """The first success; None when all were tried or the time is up."""
        pool = ThreadPoolExecutor(PARALLEL, "search")
        try:
            for attempt in as_completed([pool.submit(self._try, *p) for p in self._places]):
                found = attempt.result()
                if found is not None:
                    return found
            return None
        finally:
            self._over.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _try(self, address: str, port: int) -> T | None:
        if self._is_over():
            return None
        try:
            with self._session(address, port) as session:
                if self._turn.acquire(blocking=False):
                    try:
                        return self._ask(session)
                    finally:
                        self._turn.release()
            # It is proved, but another one is being asked. It would not wait with us.
            with self._turn:
                if self._is_over():
                    return None
                with self._session(address, port) as session:
                    return self._ask(session)
        except (OSError, http.client.HTTPException, Untrusted, OtherVersion) as error:
            self.failures.append((f"{address}:{port}", error))
            return None

    def _is_over(self) -> bool:
        return self._over.is_set() or time.monotonic() > self._end

    def _ask(self, session: ssl.SSLSocket) -> T | None:
        """Only whoever has the turn comes here."""
        if self._is_over():
            return None
        connection = http.client.HTTPConnection(self._name)
        connection.sock = session
        with contextlib.closing(connection), _ended_after(session, ANSWER):
            found = self._exchange(connection)
        self._over.set()
        return found

    @contextmanager
    def _session(self, address: str, port: int) -> Iterator[ssl.SSLSocket]:
        with socket.create_connection((address, port), timeout=CONNECT) as plain:
            plain.settimeout(HANDSHAKE)  # for the whole of it, not for each byte
            with self._context.wrap_socket(plain, server_hostname=self._name) as session:
                session.settimeout(ANSWER)
                yield session


@contextmanager
def _ended_after(session: ssl.SSLSocket, seconds: float) -> Iterator[None]:
    """Close the connection when time is up, whatever is read or written then: a time-out of the
    socket would begin anew with each byte."""

    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):
            # Not the method of SSLSocket, which takes the TLS state away from the reader.
            socket.socket.shutdown(session, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if not late.is_set():
            raise
        raise TimeoutError("no answer in time") from error
    finally:
        timer.cancel()
    if late.is_set():  # what was read ends where the connection was closed
        raise TimeoutError("no answer in time")


def plain(error: Exception) -> str:
    """Why, in a few words for people, without what would steer a terminal: a network process that
    was taken over may have chosen them."""
    return wire.printable(_words(error))[:300]


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"it is not a control plane of this fleet ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, Untrusted | OtherVersion):
        return error.reason
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")
