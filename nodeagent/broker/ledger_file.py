"""The file of the broker's memory: its records, and how they are read, those of 0.2.0 too.

0.2.0 (version 1 of the format) knew names only. What it wrote becomes the three records: a name
with an admission is a membership and a certificate, one without was asked for and never used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodeagent import formats, paths
from nodeagent.join.approval import Seal
from nodeagent.trust import wire

MAX_BYTES = 4 * 1024 * 1024
# Names that ever had a certificate, by whoever brought them in: boards with the one issuer, with
# the other, and approved by a person. What one uses up the others still have.
SHARE_OF_NAMES = 1000
MAX_NAMES = 3 * SHARE_OF_NAMES + 100  # joins that are under way when a share is used up
MAX_TOKENS_READ = 1000
MAX_ADMISSIONS = 500
MAX_PEOPLES = 500  # approvals, and as many revocations: each one typed by a person
MAX_RESERVED = 16
MAX_FORMER = 4  # cards of one board under one name
OF_V1 = 1000  # names in a file of version 1
ENROL = "enrol"


@dataclass(frozen=True)
class Token:
    """A bootstrap token that was minted for one node: its claim. Times in seconds since the epoch,
    by the ledger's time.

    ``grant`` is the answer as sent, for a node that asks twice. ``known`` says that the cluster
    had a node of this name before; ``key`` is the hash of the key that its node named for its
    kubelet ("" from before it was named), ``csr`` the same once it was approved, ``since`` when it
    was, or when the key got the place it holds. ``kind`` and ``source``: whose share it is of.
    ``board``: as in Certificate.
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
    since: int = 0
    kind: str = ENROL
    key: str = ""
    board: str = ""


@dataclass(frozen=True)
class Member:
    """A key that was let in under a name, ``since`` when (seconds since the epoch); ``uid`` of its
    Node once that was seen."""

    name: str
    node_id: str
    since: int
    uid: str = ""


@dataclass(frozen=True)
class Certificate:
    """A kubelet's certificate for a name. Whoever holds it renews it, ``end`` is 0 then, until the
    name is barred: it lives at most until the ledger has lived ``end`` seconds. ``by``: whose share
    of the names it is. ``board``: what its node said of its board, ``identity.board_mark``;
    ``former``: keys of cards that the board had before, which may hold one for the name still."""

    name: str
    node_id: str
    by: str = ENROL
    end: int = 0
    board: str = ""
    former: tuple[str, ...] = ()


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
_WORD = wire.text(r"[\x20-\x7e]*", 64)
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
_SINCE: dict[str, wire.Check] = {
    "since": _TIME, "kind": _WORD, "key": _WORD, "board": _WORD,
}  # fmt: skip
_MEMBER: dict[str, wire.Check] = {
    "name": wire.node_name,
    "node_id": wire.node_id,
    "since": _TIME,
    "uid": _WORD,
}
_CERTIFICATE: dict[str, wire.Check] = {
    "name": wire.node_name,
    "node_id": wire.node_id,
    "by": _WORD,
    "end": _TIME,
}
_BOARD: dict[str, wire.Check] = {
    "board": _WORD, "former": wire.array(wire.node_id, 0, MAX_FORMER),
}  # fmt: skip
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
    if not isinstance(value, dict) or len(value) > OF_V1:
        raise wire.Malformed("an object of names expected")
    return {wire.node_name(name): wire.node_id(node) for name, node in value.items()}


def _token(value: Any) -> Token:
    return Token(**wire.record(value, _TOKEN, _SINCE))


_COMMON: dict[str, wire.Check] = {
    "secret": wire.binary(32),
    "tokens": wire.array(_token, 0, MAX_TOKENS_READ),
    "admissions": wire.array(lambda v: Admission(**wire.record(v, _ADMISSION)), 0, MAX_ADMISSIONS),
    "approved": _approved,
    "revoked": wire.array(lambda v: Revocation(**wire.record(v, _REVOCATION)), 0, MAX_PEOPLES),
    "seal": lambda v: Seal(**wire.record(v, _SEAL)),
}
_OF_V1 = wire.Form(paths.LEDGER, 1, {**_COMMON, "names": _names}, remedy=formats.HERE)
# An earlier nodeagent must not go on with it: it would know of no name and bar nobody.
_STATE = wire.Form(
    paths.LEDGER,
    2,
    {
        **_COMMON,
        "seen": _TIME,
        "lived": _TIME,
        "up": _TIME,
        "members": wire.array(lambda v: Member(**wire.record(v, _MEMBER)), 0, MAX_NAMES),
        "certificates": wire.array(
            lambda v: Certificate(**wire.record(v, _CERTIFICATE, _BOARD)), 0, MAX_NAMES
        ),
        "reserved": wire.array(wire.text(r"[a-z0-9.-]+", 253), 0, MAX_RESERVED),
    },
    remedy=formats.HERE,
)


def stamp(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as it is written."""
    return _STATE.stamp(content)


def read(content: Any, life: int) -> dict[str, Any]:
    """The records of a file; ``life`` in seconds of certificates that 0.2.0 did not note. Raises
    Malformed, OtherVersion."""
    if isinstance(content, dict) and content.get(formats.KEY) == 1:
        return _from_v1(_OF_V1.read(content), life)
    value: dict[str, Any] = _STATE.read(content)
    certified = {one.name: one.node_id for one in value["certificates"]}
    if len(certified) != len(value["certificates"]):
        raise wire.Malformed("`certificates`: a name stands twice")
    if any(certified.get(one.name) != one.node_id for one in value["members"]):
        raise wire.Malformed("`members`: one has no certificate")
    return value


def _from_v1(value: dict[str, Any], life: int) -> dict[str, Any]:
    """As 0.2.0 meant it. Nobody who was let in is asked again, no name of theirs is free, and who
    was revoked stays barred for as long as its certificate may live, counted from now."""
    admissions, tokens = value["admissions"], value["tokens"]
    let_in = {(one.name, one.node_id) for one in admissions}
    let_in |= {(token.name, token.node_id) for token in tokens if token.csr}
    if len(admissions) == MAX_ADMISSIONS:  # older ones are lost
        let_in |= {*value["names"].items()}
    revoked = {one.node_id for one in value["revoked"]}
    when = {one.name: one.time for one in admissions}
    given = [
        (name, node)
        for name, node in value.pop("names").items()
        if (name, node) in let_in or node in revoked
    ]
    times = [one.time for one in (*admissions, *value["revoked"])]
    value |= {
        "members": tuple(Member(n, k, when.get(n, 0)) for n, k in given if k not in revoked),
        "certificates": tuple(Certificate(n, k, end=life * (k in revoked)) for n, k in given),
        "reserved": (),
        "seen": max(times, default=0),
        "lived": 0,
        "up": None,
    }
    return value
