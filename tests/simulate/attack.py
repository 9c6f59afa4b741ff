"""A double of whoever holds a card of the fleet and means ill: it hears all, reaches all, and says
anything, at any time, to anybody.

It signs for nodes of its own, as many as it likes; it speaks in any other node's name, which it
cannot sign for; and it says again what it heard. With a worker's card nobody vouches for its nodes;
with one that may lead (``vouched``) it does so itself.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from nodeagent.fleet.beacon import EPOCH_MAX, Beacon, Proof
from nodeagent.fleet.sight import CONTROL_PLANE, WORKER
from tests.simulate.air import Air
from tests.support.speakers import Speaker, unsigned

EPOCHS = (0, 1, 2, 3, 7, 63, 64, 65, 2**20, 2**30, EPOCH_MAX - 1, EPOCH_MAX)
PACE = 4.0  # seconds between two of its moves, about


@dataclass(frozen=True)
class Attack:
    """From ``begin`` to ``end``, with ``nodes`` of its own. ``moves``: what it does, by name."""

    begin: float
    end: float
    nodes: int
    moves: tuple[str, ...]
    vouched: bool = False


def draw_attack(chance: random.Random, vouched: bool) -> Attack:
    """One by lot: each seems to have a plan, some have several."""
    begin = chance.choice((0.0, chance.uniform(0, 60), chance.uniform(0, 400)))
    length = chance.choice((10.0, 30.0, 120.0, 300.0))
    moves = tuple(chance.sample(sorted(MOVES), chance.randint(1, 3)))
    return Attack(begin, begin + length, chance.choice((1, 3, 20, 1000)), moves, vouched)


class Attacker:
    """``act`` makes one move and gives the true seconds until the next, None when it is over."""

    def __init__(self, attack: Attack, air: Air, chance: random.Random, sealed: bool) -> None:
        self.attack, self.air, self.chance, self.sealed = attack, air, chance, sealed
        self.heard: list[tuple[Beacon, Any]] = []  # the last of each honest node: (beacon, message)
        self.place: dict[str, int] = {}
        self.old: list[Any] = []
        self.speakers: dict[int, Speaker] = {}
        self.count = 0
        self.salt = chance.randrange(2**100)
        air.taps.append(self._hear)

    def _hear(self, beacon: Beacon, message: Any) -> None:
        at = self.place.setdefault(beacon.node_id, len(self.heard))
        if at == len(self.heard):
            self.heard.append((beacon, message))
        else:
            if len(self.old) < 300:
                self.old.append(self.heard[at][1])
            self.heard[at] = (beacon, message)

    def act(self, now: float) -> float | None:
        """One move."""
        if now > self.attack.end:
            return None
        if self.heard:
            for _ in range(self.chance.choice((1, 1, 2, 5))):
                MOVES[self.chance.choice(self.attack.moves)](self, now)
        return PACE * (0.5 + self.chance.random())

    # What is said.

    def say(self, now: float, message: Any) -> None:
        """To all or some, from another address each time."""
        self.count += 1
        receivers = range(self.air.size)
        if self.chance.random() < 0.4:
            receivers = sorted(
                self.chance.sample(range(self.air.size), self.chance.randint(1, self.air.size))
            )  # type: ignore[assignment]
        self.air.slip(-1000 - self.count % 200, (message, self.count), receivers, now)

    def own(self, now: float, **says: Any) -> None:
        """As a node of its own, signed."""
        number = self.chance.randrange(self.attack.nodes)
        speaker = self.speakers.get(number)
        if speaker is None:
            speaker = Speaker(1 + self.salt + number, self.attack.vouched)
            self.speakers[number] = speaker
        model = self.chance.choice(self.heard)[0]
        beacon = replace(
            model, node_id=speaker.node_id, name="pi-x", boot=f"{2**31:08x}{0:08x}",
            seq=self.count, address="10.66.6.6", **{"vote": "", "vote_epoch": 0, **says},
        )  # fmt: skip
        proof = Proof.ISSUER if self.attack.vouched else Proof.KEY
        self.say(now, speaker.seal(beacon) if self.sealed else (beacon, proof))

    def forge(self, now: float, victim: Beacon, **says: Any) -> None:
        """In another's name, so unsigned; by the counters it is that node's newest."""
        boot = self.chance.choice((victim.boot, "f" * 16))
        beacon = replace(victim, boot=boot, seq=victim.seq + 1 + self.count, **says)
        self.say(now, unsigned(beacon) if self.sealed else (beacon, Proof.NONE))

    def epoch(self, near: int = 0) -> int:
        """Any."""
        return self.chance.choice((*EPOCHS, min(near + self.chance.randrange(70), EPOCH_MAX)))

    @property
    def someone(self) -> Beacon:
        """An honest node as it was heard last; rather one that claims."""
        claims = [beacon for beacon, _ in self.heard if beacon.claim]
        if claims and self.chance.random() < 0.8:
            return self.chance.choice(claims)
        return self.chance.choice([beacon for beacon, _ in self.heard])


def _claims(one: Attacker, now: float) -> None:
    one.own(now, role=CONTROL_PLANE, claim=True, fitness=(1, 9, 2**31, 1), epoch=one.epoch())


def _leads(one: Attacker, now: float) -> None:
    one.own(now, role=CONTROL_PLANE, claim=True, ready=True, phase="ready", epoch=one.epoch())


def _votes(one: Attacker, now: float) -> None:
    for beacon in {b.node_id: b for b, _ in one.heard if b.claim}.values():
        one.own(now, role="auto", claim=False, vote=beacon.node_id, vote_epoch=beacon.epoch)


def _forges_votes(one: Attacker, now: float) -> None:
    """Each honest node votes for each claimant."""
    claims = [beacon for beacon, _ in one.heard if beacon.claim]
    for beacon, _ in one.heard[:20]:
        if claims:
            its = one.chance.choice(claims)
            one.forge(now, beacon, claim=False, vote=its.node_id, vote_epoch=its.epoch)


def _frees_votes(one: Attacker, now: float) -> None:
    """A claimant says that it claims no more, or claims anew."""
    its = one.someone
    one.forge(now, its, claim=one.chance.random() < 0.5, epoch=one.epoch(its.epoch), role="auto")


def _drives_epochs(one: Attacker, now: float) -> None:
    """a48, signed for itself and in others' names."""
    one.own(now, role="auto", claim=True, epoch=one.epoch(), vote_epoch=one.epoch())
    one.forge(now, one.someone, epoch=one.epoch(), vote_epoch=one.epoch())


def _tells(one: Attacker, now: float) -> None:
    """It knows a leader that nobody sees, or is in a cluster whose leader nobody sees."""
    if one.chance.random() < 0.5:
        one.own(now, role=WORKER, phase="joining", claim=False, leader=one.someone.node_id)
    else:
        one.own(now, role=WORKER, phase="ready", claim=False, leader="")


def _counts_wrong(one: Attacker, now: float) -> None:
    """More are expected, or fewer; many are in sight."""
    one.own(now, role="auto", claim=False, expected=one.chance.choice((0, 1, 2, 1000)))


def _silences(one: Attacker, now: float) -> None:
    """Honest nodes have failed, or lead, or are workers."""
    for beacon, _ in one.heard[:20]:
        one.forge(now, beacon, phase="failed", role=WORKER, ready=False, claim=False)


def _repeats(one: Attacker, now: float) -> None:
    """What was said long ago, as it was signed."""
    for _ in range(3):
        said = one.chance.choice(one.old) if one.old else one.heard[0][1]
        one.say(now, said)


MOVES = {
    "claims": _claims, "leads": _leads, "votes": _votes, "forges votes": _forges_votes,
    "frees votes": _frees_votes, "drives epochs": _drives_epochs, "tells": _tells,
    "counts wrong": _counts_wrong, "silences": _silences, "repeats": _repeats,
}  # fmt: skip


__all__ = ["Attack", "Attacker", "draw_attack"]
