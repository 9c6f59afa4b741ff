"""Both ends of the broker's sockets, for tests: who answers there, and who speaks too slowly."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from nodeagent.join import broker_protocol


def answer_all(
    listener: socket.socket, answer: Callable[[dict[str, Any]], Mapping[str, object]]
) -> None:
    """One message after the other, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            asked = broker_protocol.receive(connection)
            broker_protocol.send(connection, answer(asked))


def drip(connection: socket.socket, length: int, pause: Callable[[], object]) -> None:
    """A message of that length, of which a byte comes now and then; until the other end has
    enough."""
    try:
        connection.sendall(struct.pack(">I", length))
        while True:
            connection.sendall(b" ")
            pause()
    except OSError:
        return
