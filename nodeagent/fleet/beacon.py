"""Beacons: a node's short announcement, signed with its own key, sealed with the fleet's.

ChaCha20-Poly1305 (RFC 8439) with a random nonce; base64url text. The seal keeps strangers out; who
of the fleet speaks is shown by the signature, and whether that key may lead by its voucher
(``trust/voucher.py``). Beacons can be replayed, so one alone proves nothing; see ``neighbours`` for
what tells an echo from a node.

Inside is a list, since names of fields would double the size: the version of the format, then the
fields in their order, the node's key, its voucher ("" for none), and at the very end the signature
over all bytes before it. A later nodeagent adds fields before the signature without raising the
version. In every version the first items are version, node id, boot and name. Nodes of 0.2.0 sign
nothing, and pass over what comes after the fields they know.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import os
from dataclasses import MISSING, dataclass, field, fields

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nodeagent import formats
from nodeagent.errors import Untrusted
from nodeagent.trust import voucher, wire

FORMAT = 1
MAX_TEXT = 900  # characters of a sealed beacon; four TXT strings
NONCE_BYTES = 12
EPOCH_MAX = 2**31  # what can be written is what can be read
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
    ("epoch", wire.integer(0, EPOCH_MAX)),
    ("claim", wire.flag),
    ("ready", wire.flag),
    ("expected", wire.integer(0, 1000)),
    ("address", _address),
    ("port", wire.port),
    ("seq", wire.integer(0, 2**48)),
    ("uptime", wire.integer(0, 2**40)),
    ("leader", _node_id),
    ("vote", _node_id),
    ("vote_epoch", wire.integer(0, EPOCH_MAX)),
)
_SIGNED = len(_FIELDS) + 4  # items of a beacon that is signed: version, fields, key, voucher, ...
_FEWEST = 1 + sum(one.default is MISSING for one in fields(Beacon))  # later ones have a default


class Proof(enum.IntEnum):
    """What shows that a beacon is of the node that it names. NONE: nothing, anybody with a card of
    the fleet can have said it. KEY: the node's own signature. TLS: the control plane there proved
    itself on a connection. ISSUER: as KEY, and the control-plane issuer vouches for the key."""

    NONE = 0
    KEY = 1
    TLS = 2
    ISSUER = 3


@dataclass(frozen=True)
class Said:
    """A beacon out of its seal, and what is to prove it: ``prove``."""

    beacon: Beacon
    signed: bytes = field(default=b"", repr=False)  # "" for a beacon without a signature
    point: bytes = field(default=b"", repr=False)
    voucher: bytes = field(default=b"", repr=False)
    signature: bytes = field(default=b"", repr=False)


def seal(
    key: bytes, beacon: Beacon, signer: ec.EllipticCurvePrivateKey, vouched: bytes = b""
) -> str:
    """The sealed text of a beacon, under 800 characters with the longest name. ``signer`` is the
    node's own key, ``vouched`` its voucher."""
    values = [FORMAT, *(getattr(beacon, name) for name, _ in _FIELDS)]
    values += [wire.base64url(voucher.to_point(signer.public_key())), wire.base64url(vouched)]
    signed = json.dumps(values, separators=(",", ":")).encode()[:-1]
    plain = signed + b',"' + wire.base64url(voucher.sign(signer, signed)).encode() + b'"]'
    nonce = os.urandom(NONCE_BYTES)
    return wire.base64url(nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, _ASSOCIATED))


def open_(key: bytes, sealed: str) -> Said:
    """The beacon in a sealed text, unproved. Raises Untrusted for anything that is not one of this
    fleet, OtherVersion for one of this fleet in a later format."""
    try:
        if len(sealed) > MAX_TEXT:
            raise wire.Malformed("too long")
        data = _bytes(sealed)
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
        beacon = Beacon(**{name: check(value) for (name, check), value in pairs})
        return Said(beacon) if len(values) < _SIGNED else _signed(beacon, values, plain)
    except ValueError as error:
        raise Untrusted(
            f"A beacon of this fleet was not understood: {error}.", formats.ON_ALL_NODES
        ) from error


def _signed(beacon: Beacon, values: list[object], plain: bytes) -> Said:
    """With what stands after the fields. Raises ValueError."""
    point, vouched = (_base64(value) for value in values[_SIGNED - 3 : _SIGNED - 1])
    signature = _base64(values[-1])
    if not signature:
        raise wire.Malformed("its signature is empty")
    signed, end = plain[: -len(f',"{values[-1]}"]')], f',"{values[-1]}"]'.encode()
    if signed + end != plain:
        raise wire.Malformed("its signature is not at its end")
    return Said(beacon, signed, point, vouched, signature)


def prove(said: Said, issuer: bytes) -> Proof:
    """Who said it; ``issuer`` is the point of the control-plane issuer's key. Raises Untrusted
    where it is not of the node that it names."""
    if not said.signature:
        return Proof.NONE
    name = f"{said.beacon.name} ({said.beacon.node_id})"
    try:
        public = voucher.from_point(said.point)
    except ValueError as error:
        raise Untrusted(f"A beacon of {name} has no key.", formats.ON_ALL_NODES) from error
    its_own = voucher.node_id(public) == said.beacon.node_id
    if not its_own or not voucher.is_signed(public, said.signed, said.signature):
        raise Untrusted(
            f"A beacon in the name of {name} was not signed by that node.",
            "Somebody with a card of this fleet, or with a copy of one, speaks in its name.",
        )
    vouched = bool(issuer and said.voucher) and voucher.is_vouched(issuer, said.point, said.voucher)
    return Proof.ISSUER if vouched else Proof.KEY


def _bytes(text: str) -> bytes:
    return base64.b64decode(
        text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
    )


def _base64(value: object) -> bytes:
    """Raises ValueError."""
    return _bytes(wire.text(r"[A-Za-z0-9_-]*", 90)(value))


def _said_by(values: list[object]) -> str:
    """Which node a beacon of any version is of, for people."""
    try:
        return f"{dict(_FIELDS)['name'](values[3])} ({wire.node_id(values[1])})"
    except (IndexError, wire.Malformed):
        return "a node of this fleet"
