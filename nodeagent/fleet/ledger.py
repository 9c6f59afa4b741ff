"""The broker's durable memory: names claimed, tokens outstanding, admissions, its nonce secret.

One file, ``/var/lib/nodeagent-broker/state.json`` (0600), replaced whole and durably before any
answer leaves the broker: a power cut never frees a name or forgets a token.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import os
import struct
from dataclasses import dataclass

from nodeagent.errors import FleetError
from nodeagent.fleet import wire
from nodeagent.host.host import Host

FOLDER = "/var/lib/nodeagent-broker"
PATH = f"{FOLDER}/state.json"
MAX_BYTES = 2 * 1024 * 1024
MAX_NAMES = 1000
MAX_ADMISSIONS = 500
NONCE_LIFE = 120  # seconds


@dataclass(frozen=True)
class Token:
    """A bootstrap token that was minted for one node. Times in seconds since the epoch.

    ``grant`` is the answer as sent, for a node that asks twice. ``known`` says that the cluster
    had a node of this name before; ``csr`` is the hash of the key that was approved.
    """

    token_id: str
    node_id: str
    nonce: str
    name: str
    source: str
    expires: int
    grant: str = dataclasses.field(default="", repr=False)
    known: bool = False
    csr: str = ""
    deleted: bool = False


@dataclass(frozen=True)
class Admission:
    """Who was let in: when, from where, with which token."""

    name: str
    node_id: str
    time: int
    source: str
    token_id: str


_TEXT = wire.text(r"[\x20-\x7e]*", 16 * 1024)
_TIME = wire.integer(0, 2**40)
_TOKEN: dict[str, wire.Check] = {
    "token_id": _TEXT,
    "node_id": wire.node_id,
    "nonce": _TEXT,
    "name": wire.node_name,
    "source": _TEXT,
    "expires": _TIME,
    "grant": _TEXT,
    "known": wire.flag,
    "csr": _TEXT,
    "deleted": wire.flag,
}
_ADMISSION: dict[str, wire.Check] = {
    "name": wire.node_name,
    "node_id": wire.node_id,
    "time": _TIME,
    "source": _TEXT,
    "token_id": _TEXT,
}


def _names(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_NAMES:
        raise wire.Malformed("an object of names expected")
    return {wire.node_name(name): wire.node_id(node) for name, node in value.items()}


_STATE: dict[str, wire.Check] = {
    "secret": wire.binary(32),
    "names": _names,
    "tokens": wire.array(lambda v: Token(**wire.record(v, _TOKEN)), 0, 1000),
    "admissions": wire.array(lambda v: Admission(**wire.record(v, _ADMISSION)), 0, MAX_ADMISSIONS),
}


class Ledger:
    """Read whole at start; each change is durable when the method returns."""

    def __init__(self, host: Host) -> None:
        """Raises FleetError where the file is damaged, OSError."""
        self._host = host
        self.names: dict[str, str] = {}
        self.tokens: tuple[Token, ...] = ()
        self.admissions: tuple[Admission, ...] = ()
        self._secret = os.urandom(32)
        data = host.read(PATH)
        if data is None:
            self._save()
            return
        try:
            value = wire.record(wire.loads(data, MAX_BYTES), _STATE)
        except wire.Malformed as error:
            raise FleetError(
                f"The broker's memory in {PATH} is damaged: {error}.",
                "Check the card for faults. Removing the file frees every name that was claimed.",
            ) from error
        self._secret = value["secret"]
        self.names = value["names"]
        self.tokens = value["tokens"]
        self.admissions = value["admissions"]

    def nonce(self, now: float) -> str:
        """A fresh nonce: the time and random bits, authenticated (HMAC, RFC 2104), so that none
        has to be remembered and nobody can fill a memory."""
        body = struct.pack(">Q", int(now)) + os.urandom(8)
        return base64.urlsafe_b64encode(body + self._mark(body)).rstrip(b"=").decode()

    def is_fresh(self, nonce: str, now: float) -> bool:
        """True for a nonce of this broker that is not too old."""
        try:
            data = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
        except ValueError:
            return False
        body, mark = data[:16], data[16:]
        if len(body) != 16 or not hmac.compare_digest(mark, self._mark(body)):
            return False
        return 0 <= int(now) - int(struct.unpack(">Q", body[:8])[0]) <= NONCE_LIFE

    def _mark(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, hashlib.sha256)[:16]

    def claim(self, wish: str, node_id: str, taken: frozenset[str]) -> str:
        """The name for this key: the wish, or the wish and four characters of its node id.

        The first key keeps a name. ``taken`` are names of nodes that never asked here. Raises
        FleetError where no name is left.
        """
        for name in (wish, f"{wish[:58]}-{node_id[2:6]}", f"{wish[:46]}-{node_id[2:]}"):
            holder = self.names.get(name)
            if holder == node_id:
                return name
            if holder is None and name not in taken and len(self.names) < MAX_NAMES:
                self.names = {**self.names, name: node_id}
                self._save()
                return name
        raise FleetError(
            f"No name is left for {node_id}.", "Free one with `nodeagent forget NAME`."
        )

    def forget(self, name: str) -> bool:
        """Free a name; False where nobody had it."""
        if name not in self.names:
            return False
        self.names = {key: value for key, value in self.names.items() if key != name}
        self._save()
        return True

    def put(self, token: Token) -> None:
        """Remember a token, or its new state."""
        others = tuple(t for t in self.tokens if t.token_id != token.token_id)
        self.tokens = (*others, token)
        self._save()

    def drop(self, token: Token) -> None:
        """Forget a token that is deleted and expired."""
        self.tokens = tuple(t for t in self.tokens if t.token_id != token.token_id)
        self._save()

    def admit(self, admission: Admission) -> None:
        """Record an admission; the oldest beyond 500 are dropped."""
        self.admissions = (*self.admissions, admission)[-MAX_ADMISSIONS:]
        self._save()

    def _save(self) -> None:
        content = {
            "secret": base64.b64encode(self._secret).decode(),
            "names": self.names,
            "tokens": [dataclasses.asdict(token) for token in self.tokens],
            "admissions": [dataclasses.asdict(entry) for entry in self.admissions],
        }
        self._host.write(PATH, json.dumps(content).encode(), 0o600)
