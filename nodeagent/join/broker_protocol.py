"""How the broker is spoken to over its Unix sockets: four bytes of length, then JSON, which says
``"v": 1`` besides.

At SOCKET, the network process's:
{"op": "nonce"}                                   -> {"nonce": TEXT}
{"op": "grant", "request": JWS, "source": IP}     -> {"grant": JWS}
{"op": "leave", "said": JWS}                      -> {"left": TEXT}
{"op": "cluster", "nonce": TEXT}                  -> {"cluster": JWS}
At ROOT_SOCKET, which has a queue of its own, the answers as in ``ANSWERS``:
{"op": "nodes"}, {"op": "approve", "node": ID}, {"op": "revoke", "who": NAME OR ID},
{"op": "forget", "name": NAME}, {"op": "seal", "open": SECONDS}
Anything refused     -> {"status": HTTP STATUS, "error": SENTENCE}, for root also "remedy"
Not known here       -> {"status": 415, ...}: the other process is of another version
A person has to act  -> {"status": 202, "error": "approval" or "sealed"}
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from nodeagent.trust import wire

SOCKET = "/run/nodeagent-broker.sock"
ROOT_SOCKET = "/run/nodeagent-root.sock"
MAX_BYTES = 128 * 1024
MAX_LISTED = 2 * 1024 * 1024  # of what root is told: whoever holds a right, to the last
PATIENCE = 40.0  # seconds; the API server of a slow board may take its time
OTHER_VERSION = 415  # RFC 9110 15.5.16: a format that is not taken here
RESTART = (
    "One of the two still runs from before an update: sudo systemctl restart nodeagent-serve"
    " nodeagent-broker"
)
_MESSAGE = wire.Form("A message between the broker and another process", 1, {}, remedy=RESTART)


class Refusal(TypedDict):
    """What is answered instead of what was asked for."""

    status: int
    error: str
    remedy: NotRequired[str]


class Admitted(TypedDict):
    """A node that was let in, ``time`` in seconds since the epoch."""

    name: str
    node_id: str
    time: int
    source: str
    token_id: str


class Asking(TypedDict):
    """A node that waits for a person; ``why``: approval or sealed; when it first and last asked."""

    node_id: str
    name: str
    source: str
    why: str
    first: int
    last: int


class Barred(TypedDict):
    """A node that was revoked, under the last name it had ("" for none)."""

    node_id: str
    name: str
    time: int


class Claim(TypedDict):
    """A node that has a grant and has not joined, ``until`` its token ends."""

    name: str
    node_id: str
    source: str
    until: int


class Left(TypedDict):
    """A name whose holder is no member any more, but may have a certificate: for so many ``days``
    at most, 0 where it is not barred."""

    name: str
    node_id: str
    days: int


class Overview(TypedDict):
    """The answer to "nodes": all that hold a right, to the last. ``until`` enrolment is open
    (seconds since the epoch), 0: no end. ``ahead``: seconds that an earlier clock was."""

    admissions: list[Admitted]
    claims: NotRequired[list[Claim]]
    left: NotRequired[list[Left]]
    ahead: NotRequired[int]
    waiting: list[Asking]
    approved: list[str]
    revoked: list[Barred]
    by_approval: bool
    open: bool
    until: int


class Approved(TypedDict):
    """The answer to "approve"; ``state`` is admitted, waiting or unheard. ``let_back``: names that
    root takes off the cluster's list of revoked ones."""

    name: str
    source: str
    state: str
    let_back: list[str]


class Revoked(TypedDict):
    """The answer to "revoke": the names that root bars; ``sealed``: enrolment was open until
    then."""

    node_id: str
    names: list[str]
    sealed: bool


class Forgotten(TypedDict):
    """The answer to "forget": whether that changed anything; for how many ``days`` the name is
    nobody's, since a certificate may live. ``bar`` and ``let_back``: what root does."""

    forgotten: bool
    days: int
    bar: list[str]
    let_back: list[str]


class Sealed(TypedDict):
    """The answer to "seal"."""

    until: int


MAX_SENTENCE = 500  # characters of what is said to people
MAX_ROWS = 4000  # of one table: more names than a ledger holds (broker/ledger_file.py)
MAX_NAMED = 100  # of one node
_TIME = wire.integer(-(2**40), 2**40)  # below 0: before 1970, where the clock went back
_DAYS = wire.integer(0, 2**16)
_NODE: dict[str, wire.Check] = {
    "name": wire.either("", wire.node_name), "node_id": wire.node_id,
    "source": wire.either("", wire.address), "time": _TIME, "until": _TIME, "first": _TIME,
    "last": _TIME, "days": _DAYS, "why": wire.text("approval|sealed", 16),
    "token_id": wire.text("([a-z0-9]{6})?", 6),
}  # fmt: skip
_REFUSAL = {"status": wire.integer(100, 599), "error": wire.sentence(MAX_SENTENCE)}
_REMEDY = {"remedy": wire.sentence(MAX_SENTENCE)}


def _rows(kind: Any) -> wire.Check:
    """A table of such entries."""
    checks = {name: _NODE[name] for name in kind.__annotations__}
    return wire.array(lambda value: wire.record(value, checks), 0, MAX_ROWS)


_names = wire.array(wire.node_name, 0, MAX_NAMED)
# What root takes of an answer at ROOT_SOCKET, required keys and optional ones: it acts on them and
# shows them, and the broker may be taken over.
ANSWERS: dict[str, tuple[dict[str, wire.Check], dict[str, wire.Check]]] = {
    "nodes": (
        {
            "admissions": _rows(Admitted), "waiting": _rows(Asking), "revoked": _rows(Barred),
            "approved": wire.array(wire.node_id, 0, MAX_ROWS), "by_approval": wire.flag,
            "open": wire.flag, "until": _TIME,
        },
        {"claims": _rows(Claim), "left": _rows(Left), "ahead": wire.integer(0, 2**40)},
    ),
    "approve": (
        {
            "name": _NODE["name"], "source": _NODE["source"], "let_back": _names,
            "state": wire.text("admitted|waiting|unheard", 16),
        },
        {},
    ),
    "revoke": ({"node_id": wire.node_id, "names": _names, "sealed": wire.flag}, {}),
    "forget": ({"forgotten": wire.flag, "days": _DAYS, "bar": _names, "let_back": _names}, {}),
    "seal": ({"until": _TIME}, {}),
}  # fmt: skip


def heard(op: str, said: Any) -> Any:
    """An answer to ``op`` at ROOT_SOCKET, each known key of it checked: a Refusal, or as ANSWERS
    has it. Raises wire.Malformed."""
    if isinstance(said, dict) and "error" in said:
        return wire.record(said, _REFUSAL, _REMEDY)
    return wire.record(said, *ANSWERS[op])


def refusal(status: int, reason: str) -> Refusal:
    """A refusal, in the form in which it is taken: others' programs may have worded it."""
    line = wire.printable(" ".join(reason.split()))
    return {"status": status, "error": line[:MAX_SENTENCE]}


def send(connection: socket.socket, message: Mapping[str, object]) -> None:
    """Send one message. Raises OSError."""
    data = json.dumps(_MESSAGE.stamp(message), separators=(",", ":")).encode()
    connection.sendall(struct.pack(">I", len(data)) + data)


def receive(connection: socket.socket, most: int = MAX_BYTES, seconds: float = PATIENCE) -> Any:
    """Receive one message of at most ``most`` bytes, the whole of it within so many seconds: one
    that comes byte by byte has no longer. Raises wire.Malformed, OtherVersion, OSError
    (TimeoutError)."""
    deadline = time.monotonic() + seconds
    (length,) = struct.unpack(">I", _exactly(connection, 4, deadline))
    if length > most:
        raise wire.Malformed(f"longer than {most} bytes")
    message = wire.loads(_exactly(connection, length, deadline), most)
    _MESSAGE.read(message)
    return message


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the message did not come in time")
        connection.settimeout(left)
        piece = connection.recv(count - len(data))
        if not piece:
            raise wire.Malformed("the message ended early")
        data += piece
    return data


def call(path: str, message: Mapping[str, object], most: int = MAX_BYTES) -> Any:
    """Ask the broker that listens at ``path`` one thing, for an answer of at most ``most`` bytes.
    Raises wire.Malformed, OtherVersion, OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        send(connection, message)
        return receive(connection, most)
