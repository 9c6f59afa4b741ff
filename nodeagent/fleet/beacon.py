"""Beacons: a node's short announcement, sealed with the fleet's beacon key.

ChaCha20-Poly1305 (RFC 8439) with a random nonce; base64url text. Sealed beacons can be replayed,
so a beacon alone proves nothing; see ``hearing`` for what tells an echo from a node.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nodeagent.errors import Untrusted
from nodeagent.trust import wire

FORMAT = 1
MAX_TEXT = 900  # characters of a sealed beacon; four TXT strings
NONCE_BYTES = 12
_ASSOCIATED = b"nodeagent beacon"
_PHASES = "preparing|rebooting|discovering|electing|initialising|joining|ready|failed"


@dataclass(frozen=True)
class Beacon:
    """Where a node stands.

    ``boot`` grows from boot to boot, ``seq`` within one. ``fitness`` ranks candidates,
    greater is better. ``claim`` says that the node wants to lead with ``epoch``; ``ready`` that
    grants are to be had from it. ``expected`` is its ``expected_nodes`` (0: not set), ``uptime``
    in seconds. ``leader`` is the node it knows to lead or to claim, "" for none
    (``election.known_leader``); ``vote`` and ``vote_epoch`` name the claim that has its vote
    (``election.ballot``), "" and 0 for none.
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


# In the order on the wire: a list, since names would double the size.
_FIELDS: tuple[tuple[str, wire.Check], ...] = (
    ("node_id", wire.node_id),
    ("boot", wire.text(r"[0-9a-f]{8,16}", 16)),
    ("name", wire.text(r"[A-Za-z0-9._-]+", 64)),
    ("phase", wire.text(_PHASES, 16)),
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


def seal(key: bytes, beacon: Beacon) -> str:
    """The sealed text of a beacon, under 500 characters with the longest name."""
    values = [FORMAT, *(getattr(beacon, name) for name, _ in _FIELDS)]
    plain = json.dumps(values, separators=(",", ":")).encode()
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, _ASSOCIATED)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def open_(key: bytes, sealed: str) -> Beacon:
    """The beacon in a sealed text. Raises Untrusted for anything that is not one of this fleet."""
    try:
        if len(sealed) > MAX_TEXT:
            raise wire.Malformed("too long")
        data = base64.b64decode(
            sealed.encode("ascii") + b"=" * (-len(sealed) % 4), altchars=b"-_", validate=True
        )
        nonce, box = data[:NONCE_BYTES], data[NONCE_BYTES:]
        values = wire.loads(ChaCha20Poly1305(key).decrypt(nonce, box, _ASSOCIATED), MAX_TEXT)
        if not isinstance(values, list) or len(values) != len(_FIELDS) + 1 or values[0] != FORMAT:
            raise wire.Malformed("another format")
        pairs = zip(_FIELDS, values[1:], strict=True)
        return Beacon(**{name: check(value) for (name, check), value in pairs})
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise Untrusted(
            "A beacon on the network was not sealed by this fleet.",
            "Nothing to do; if a node is missing, check that its card is of this fleet.",
        ) from error
