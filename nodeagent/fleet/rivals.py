"""Two control planes of one fleet: which of them gives way. Pure: no I/O, no clock.

It happens where a network was in two parts while the fleet formed, or a control plane was switched
off for long. Nothing of anybody's may be lost over it: only the younger one, and only while it has
no other nodes and no workloads, steps down. Each asks the other over TLS, never its beacon, and
both order themselves by the same proved facts, so never do both step down.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.fleet.beacon import EPOCH_MAX, Beacon, Proof
from nodeagent.fleet.sight import STALE, Heard, gives_grants
from nodeagent.trust import wire

MAX_BYTES = 2048


@dataclass(frozen=True)
class Side:
    """What a control plane says of its cluster at ``/v1/cluster``: signed to who asks with POST
    (``join/which_cluster.py``), plain to nodeagent 0.2.0, which asks with GET.

    ``cluster`` is the SHA-256 of its CA certificate, ``epoch`` that of the claim it was made with,
    ``born`` when it was made (unix time, by its own clock). ``alone``: neither other nodes nor
    workloads; None where it has not looked yet. ``off``: the boots that are to end, by the kernel's
    ids of them (random(4), boot_id), since a person switches the cluster off (``all_off.py``).
    """

    node_id: str
    name: str
    cluster: str
    epoch: int
    born: int
    alone: bool | None
    off: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """As it goes over the wire to nodeagent 0.2.0."""
        return json.dumps(_SIDE.stamp({name: getattr(self, name) for name in SIDE})).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Side:
        """What nodeagent 0.2.0 says; worth what its TLS connection is. Raises wire.Malformed,
        OtherVersion."""
        return cls(**_SIDE.read(wire.loads(data, MAX_BYTES)))


SIDE: dict[str, wire.Check] = {
    "node_id": wire.node_id,
    "name": wire.text(r"[A-Za-z0-9._-]+", 64),
    "cluster": wire.text(r"[0-9a-f]{64}", 64),
    "epoch": wire.integer(0, EPOCH_MAX),
    "born": wire.integer(0, 2**40),
    "alone": lambda value: None if value is None else wire.flag(value),
}
BOOT_ID = wire.text(r"[0-9a-f-]{36}", 36)
OFF_MOST = 100  # boards
SIDE_SINCE: dict[str, wire.Check] = {"off": wire.array(BOOT_ID, 0, OFF_MOST)}
_SIDE = wire.Form("What a control plane says of its cluster", 1, SIDE)


class Verdict(enum.Enum):
    """NOTHING: it is ourselves, or the same cluster. STAY: the other one gives way.
    STEP_DOWN: this one gives way. BOTH_STAY: people must decide."""

    NOTHING = "nothing"
    STAY = "stay"
    STEP_DOWN = "step-down"
    BOTH_STAY = "both-stay"


def judge(mine: Side, theirs: Side) -> Verdict:
    """What this side does, now that both are known; ``theirs`` must be proved and fresh."""
    if mine.node_id == theirs.node_id or mine.cluster == theirs.cluster:
        return Verdict.NOTHING
    if _age(mine) > _age(theirs):
        return Verdict.STEP_DOWN if mine.alone else Verdict.BOTH_STAY
    # It has not looked yet: it will, and says so at the next question.
    return Verdict.BOTH_STAY if theirs.alone is False else Verdict.STAY


def rivals(heard: Iterable[Heard], now: float) -> list[Beacon]:
    """Other control planes in sight, first those that the control-plane issuer vouches for. Hints:
    each is to be asked over TLS. One that signs and has no voucher is none."""
    seen = [
        h
        for h in heard
        if gives_grants(h.beacon) and h.proof is not Proof.KEY and now - h.last < STALE
    ]
    return [h.beacon for h in sorted(seen, key=lambda h: h.proof, reverse=True)]


def _age(side: Side) -> tuple[int, int, str]:
    """Greater is younger. Epochs first: who claimed later and knew of the other has the greater
    one, whatever the clocks said."""
    return side.epoch, side.born, side.node_id
