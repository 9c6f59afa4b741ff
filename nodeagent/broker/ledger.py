"""The broker's durable memory: names claimed, tokens outstanding, admissions, who was approved or
revoked, whether enrolment is sealed, its nonce secret.

One file, ``/var/lib/nodeagent-broker/state.json`` (0600), replaced whole and durably before any
answer leaves the broker: a power cut never frees a name or forgets a token. What a later version of
nodeagent added to it is kept.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nodeagent import formats, paths
from nodeagent.errors import FleetError
from nodeagent.host.host import Host
from nodeagent.join.approval import Seal
from nodeagent.trust import wire

MAX_BYTES = 2 * 1024 * 1024
MAX_NAMES = 1000
MAX_NAMES_EACH = 4
MAX_TOKENS = 1000
MAX_ADMISSIONS = 500
MAX_PEOPLES = 500  # approvals, and as many revocations: each one typed by a person
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


@dataclass(frozen=True)
class Revocation:
    """A key that may not come back, under the last name it had ("" where it had none)."""

    node_id: str
    name: str
    time: int


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

_REVOCATION: dict[str, wire.Check] = {
    "node_id": wire.node_id,
    "name": lambda value: value if value == "" else wire.node_name(value),
    "time": _TIME,
}
_SEAL: dict[str, wire.Check] = {"sealed": wire.flag, "open_until": _TIME}


def _approved(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > MAX_PEOPLES:
        raise wire.Malformed("an object of node ids expected")
    return {wire.node_id(node): _TIME(until) for node, until in value.items()}


def _names(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_NAMES:
        raise wire.Malformed("an object of names expected")
    return {wire.node_name(name): wire.node_id(node) for name, node in value.items()}


_STATE = wire.Form(
    paths.LEDGER,
    1,
    {
        "secret": wire.binary(32),
        "names": _names,
        "tokens": wire.array(lambda v: Token(**wire.record(v, _TOKEN)), 0, MAX_TOKENS),
        "admissions": wire.array(
            lambda v: Admission(**wire.record(v, _ADMISSION)), 0, MAX_ADMISSIONS
        ),
        "approved": _approved,
        "revoked": wire.array(lambda v: Revocation(**wire.record(v, _REVOCATION)), 0, MAX_PEOPLES),
        "seal": lambda v: Seal(**wire.record(v, _SEAL)),
    },
    remedy=formats.HERE,
)


class Ledger:
    """Read whole at start; each change is durable when the method returns, but in ``claim`` and
    ``together``."""

    def __init__(self, host: Host) -> None:
        """Raises FleetError where the file is damaged, OtherVersion, OSError."""
        self._host = host
        self.names: dict[str, str] = {}
        self.tokens: tuple[Token, ...] = ()
        self.admissions: tuple[Admission, ...] = ()
        self.approved: dict[str, int] = {}  # node id -> until when it may come
        self.revoked: tuple[Revocation, ...] = ()
        self.seal = Seal()
        self._secret = os.urandom(32)
        self._held = self._changed = False
        self._more: dict[str, object] = {}  # of a later version, kept as it is
        data = host.read(paths.LEDGER)
        if data is None:
            self._save()
            return
        try:
            content = wire.loads(data, MAX_BYTES)
            value = _STATE.read(content)
        except wire.Malformed as error:
            raise FleetError(
                f"The broker's memory in {paths.LEDGER} is damaged: {error}.",
                "Check the card for faults. Removing the file frees every name that was claimed.",
            ) from error
        self._more = {k: v for k, v in content.items() if k not in (*value, formats.KEY)}
        self._secret = value["secret"]
        self.names = value["names"]
        self.tokens = value["tokens"]
        self.admissions = value["admissions"]
        self.approved = value["approved"]
        self.revoked = value["revoked"]
        self.seal = value["seal"]

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

        The first key keeps a name; a new one is durable with the token that is put next. A key
        that wishes for ever more of them keeps the newest it has, so that one node cannot take
        them all. ``taken`` are names of nodes that never asked here. Raises FleetError where no
        name is left.
        """
        own = self.names_of(node_id)
        if wish not in own and len(own) >= MAX_NAMES_EACH:
            return own[-1]
        for name in (wish, f"{wish[:58]}-{node_id[2:6]}", f"{wish[:46]}-{node_id[2:]}"):
            holder = self.names.get(name)
            if holder == node_id:
                return name
            if holder is None and name not in taken and len(self.names) < MAX_NAMES:
                self.names = {**self.names, name: node_id}
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

    def drop(self, *tokens: Token) -> None:
        """Forget tokens that are deleted and cannot be asked for again."""
        over = {token.token_id for token in tokens}
        self.tokens = tuple(t for t in self.tokens if t.token_id not in over)
        self._save()

    def admit(self, admission: Admission) -> None:
        """Record an admission; the oldest beyond 500 are dropped."""
        self.admissions = (*self.admissions, admission)[-MAX_ADMISSIONS:]
        self._save()

    def names_of(self, node_id: str) -> list[str]:
        """The names this key has claimed; none: it was never let in, or was forgotten."""
        return [name for name, holder in self.names.items() if holder == node_id]

    def revocation(self, node_id: str) -> Revocation | None:
        """The revocation of this key, where there is one."""
        return next((entry for entry in self.revoked if entry.node_id == node_id), None)

    def approve(self, node_id: str, now: float, until: int) -> None:
        """Let this key in until then, also one that was revoked. Raises FleetError where too many
        approvals wait to be used."""
        valid = {node: end for node, end in self.approved.items() if now < end}
        if len(valid) >= MAX_PEOPLES and node_id not in valid:
            raise FleetError(f"{MAX_PEOPLES} approved nodes have not joined yet.", "Wait a day.")
        self.approved = {**valid, node_id: until}
        self.revoked = tuple(entry for entry in self.revoked if entry.node_id != node_id)
        self._save()

    def used(self, node_id: str) -> None:
        """An approved node has its name; from now on it counts as admitted."""
        if node_id in self.approved:
            self.approved = {n: end for n, end in self.approved.items() if n != node_id}
            self._save()

    def revoke(self, revocation: Revocation) -> None:
        """Deny this key from now on. Raises FleetError where too many are denied."""
        others = tuple(e for e in self.revoked if e.node_id != revocation.node_id)
        if len(others) >= MAX_PEOPLES:
            raise FleetError(
                f"{MAX_PEOPLES} nodes are revoked already.",
                "Make a new fleet: these cards' keys are in too many hands.",
            )
        self.revoked = (*others, revocation)
        self.approved = {n: end for n, end in self.approved.items() if n != revocation.node_id}
        self._save()

    def set_seal(self, seal: Seal) -> None:
        """Remember what a person said of enrolment."""
        self.seal = seal
        self._save()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is changed within is durable when it ends, however it ends, with one write: on a
        card each takes tens of milliseconds."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._changed:
                self._save()

    def _save(self) -> None:
        self._changed = self._held
        if self._held:
            return
        content = self._more | {
            "secret": base64.b64encode(self._secret).decode(),
            "names": self.names,
            # Not asdict, which copies every text: with a thousand nodes joining it took most of
            # the broker's time.
            "tokens": [vars(token) for token in self.tokens],
            "admissions": [vars(entry) for entry in self.admissions],
            "approved": self.approved,
            "revoked": [vars(entry) for entry in self.revoked],
            "seal": vars(self.seal),
        }
        self._host.write(paths.LEDGER, json.dumps(_STATE.stamp(content)).encode(), 0o600)
