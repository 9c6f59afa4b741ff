"""Beacons: a node's short announcement, sealed with the fleet's beacon key.

ChaCha20-Poly1305 (RFC 8439) with a random nonce; base64url text. Sealed beacons can be replayed,
so a beacon alone proves nothing; see ``neighbours`` for what tells an echo from a node.

Inside is a list, since names of fields would double the size: the version of the format, then the
fields in their order. A later nodeagent adds fields at the end without raising the version. In
every version the first items are version, node id, boot and name.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import MISSING, dataclass, fields

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nodeagent import formats
from nodeagent.errors import Untrusted
from nodeagent.trust import wire

FORMAT = 1
MAX_TEXT = 900  # characters of a sealed beacon; four TXT strings
NONCE_BYTES = 12
_ASSOCIATED = b"nodeagent beacon"


@dataclass(frozen=True)
class Beacon:
    """Where a node stands.

    ``boot`` grows from boot to boot, ``seq`` within one. ``fitness`` ranks candidates,
    greater is better. ``claim`` says that the node wants to lead with ``epoch``; ``ready`` that
    grants are to be had from it. ``expected`` is its ``expected_nodes`` (0: not set), ``uptime``
    in seconds. ``leader`` is the node it knows to lead or to claim, "" for none
    (``election.known_leader``); ``vote`` and ``vote_epoch`` name the claim that has its vote
    (``election.ballot``), "" and 0 for none. ``phase`` is one of ``status.PHASES``, or another one
    of a later nodeagent.
    """

    node_id: str
    boot: str
    name: str
    phase: str
    role: str
    fitness: tuple[int, ...]
    epoch: int
    claim: bool
    ready: bool
    expected: int
    address: str
    port: int
    seq: int
    uptime: int = 0
    leader: str = ""
    vote: str = ""
    vote_epoch: int = 0


def _address(value: object) -> str:
    return "" if value == "" else wire.address(value)


def _node_id(value: object) -> str:
    return "" if value == "" else wire.node_id(value)


# In the order on the wire.
_FIELDS: tuple[tuple[str, wire.Check], ...] = (
    ("node_id", wire.node_id),
    ("boot", wire.text(r"[0-9a-f]{8,16}", 16)),
    ("name", wire.text(r"[A-Za-z0-9._-]+", 64)),
    ("phase", wire.text(r"[a-z-]+", 16)),
    ("role", wire.text(r"auto|control-plane|worker", 16)),
    ("fitness", wire.array(wire.integer(0, 2**31), 0, 8)),
    ("epoch", wire.integer(0, 2**31)),
    ("claim", wire.flag),
    ("ready", wire.flag),
    ("expected", wire.integer(0, 1000)),
    ("address", _address),
    ("port", wire.port),
    ("seq", wire.integer(0, 2**48)),
    ("uptime", wire.integer(0, 2**40)),
    ("leader", _node_id),
    ("vote", _node_id),
    ("vote_epoch", wire.integer(0, 2**31)),
)
_FEWEST = 1 + sum(one.default is MISSING for one in fields(Beacon))  # later ones have a default


def seal(key: bytes, beacon: Beacon) -> str:
    """The sealed text of a beacon, under 500 characters with the longest name."""
    values = [FORMAT, *(getattr(beacon, name) for name, _ in _FIELDS)]
    plain = json.dumps(values, separators=(",", ":")).encode()
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, _ASSOCIATED)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def open_(key: bytes, sealed: str) -> Beacon:
    """The beacon in a sealed text. Raises Untrusted for anything that is not one of this fleet,
    OtherVersion for one of this fleet in a later format."""
    try:
        if len(sealed) > MAX_TEXT:
            raise wire.Malformed("too long")
        data = base64.b64decode(
            sealed.encode("ascii") + b"=" * (-len(sealed) % 4), altchars=b"-_", validate=True
        )
        nonce, box = data[:NONCE_BYTES], data[NONCE_BYTES:]
        plain = ChaCha20Poly1305(key).decrypt(nonce, box, _ASSOCIATED)
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise Untrusted(
            "A beacon on the network was not sealed by this fleet.",
            "Nothing to do; if a node is missing, check that its card is of this fleet.",
        ) from error
    try:
        values = wire.loads(plain, MAX_TEXT)
        if not isinstance(values, list) or not values:
            raise wire.Malformed("a list of its fields expected")
        formats.check(values[0], f"A beacon of {_said_by(values)}", FORMAT, formats.ON_ALL_NODES)
        if len(values) < _FEWEST:
            raise wire.Malformed("fields are missing")
        pairs = zip(_FIELDS, values[1:], strict=False)
        return Beacon(**{name: check(value) for (name, check), value in pairs})
    except ValueError as error:
        raise Untrusted(
            f"A beacon of this fleet was not understood: {error}.", formats.ON_ALL_NODES
        ) from error


def _said_by(values: list[object]) -> str:
    """Which node a beacon of any version is of, for people."""
    try:
        return f"{dict(_FIELDS)['name'](values[3])} ({wire.node_id(values[1])})"
    except (IndexError, wire.Malformed):
        return "a node of this fleet"
