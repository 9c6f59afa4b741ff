"""Nodes that announce themselves: with the issuer's voucher, without one, and as 0.2.0 did."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nodeagent.fleet import beacon as beacons
from nodeagent.fleet.beacon import Beacon
from nodeagent.fleet.handoff import Candidate
from nodeagent.trust import voucher

KEY = bytes(32)  # the fleet's beacon key


def key(number: int) -> ec.EllipticCurvePrivateKey:
    """The same key for the same number."""
    return ec.derive_private_key(number, ec.SECP256R1())


ISSUER = key(999)
POINT = voucher.to_point(ISSUER.public_key())


class Speaker:
    """A node by its number; ``vouched``: its card may lead."""

    def __init__(self, number: int, vouched: bool = True) -> None:
        self.private = key(number)
        self.node_id = voucher.node_id(self.private.public_key())
        self.voucher = voucher.vouch(ISSUER, self.private.public_key()) if vouched else b""

    def seal(self, beacon: Beacon, beacon_key: bytes = KEY) -> str:
        """A beacon as its own, whatever id stands in it."""
        return self.sign(replace(beacon, node_id=self.node_id), beacon_key)

    def sign(self, beacon: Beacon, beacon_key: bytes = KEY) -> str:
        """A beacon in whatever name stands in it, signed with this node's key."""
        return beacons.seal(beacon_key, beacon, self.private, self.voucher)


def seal_values(values: object, beacon_key: bytes = KEY) -> str:
    """Anything, sealed as a beacon."""
    nonce, text = os.urandom(12), json.dumps(values, separators=(",", ":")).encode()
    box = nonce + ChaCha20Poly1305(beacon_key).encrypt(nonce, text, beacons._ASSOCIATED)
    return base64.urlsafe_b64encode(box).rstrip(b"=").decode()


def unsigned(beacon: Beacon, beacon_key: bytes = KEY) -> str:
    """As 0.2.0 seals it: in anybody's name."""
    values = [getattr(beacon, name) for name, _ in beacons._FIELDS]
    return seal_values([beacons.FORMAT, *values], beacon_key)


def inside(sealed: str, beacon_key: bytes = KEY) -> list[object]:
    """What a sealed beacon holds, as 0.2.0 reads it too."""
    data = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    plain = ChaCha20Poly1305(beacon_key).decrypt(data[:12], data[12:], beacons._ASSOCIATED)
    values: list[object] = json.loads(plain)
    return values


def came(sealed: Iterable[str], source: str = "10.77.0.9") -> list[Candidate]:
    """Out of packets from one address."""
    return [Candidate(source, 6444, text, 1, 1) for text in sealed]
