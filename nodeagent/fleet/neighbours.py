"""What the agent itself remembers of the beacons it opened.

The network process may lose, repeat or invent candidates, and sealed beacons can be replayed by
anyone. So a node counts as heard only when its counters moved on, at the moment the agent saw
that, on the agent's own clock; and a node once heard is never displaced by what strangers send.

Whoever has any card of the fleet can seal beacons. So each is proved (``beacon.prove``), where it
says something new; what a node once heard signed did not sign is not its word. Of nodes whose key
nobody vouches for one source address has a small share, and they take no place from the others:
anybody makes such keys, as many as he likes.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from nodeagent.errors import OtherVersion, Untrusted
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet.beacon import Beacon, Proof
from nodeagent.fleet.handoff import Candidate
from nodeagent.fleet.sight import GONE, Heard

LOG = logging.getLogger("nodeagent")

MAX_NODES = 1000  # that the control-plane issuer vouches for, and as many others
SHARE = 16  # of the others from one source address
LAPSE = 1200.0  # seconds; of whom nothing was heard for so long nothing is remembered
CHECKS, CHECKS_EACH = 64, 8  # signatures looked into at one reading, and of one source address
TELL = 60.0  # seconds between two lines of the log on beacons that were refused
MAX_SEEN = 4096
MAX_TOLD = 8  # nodes of other versions


class Neighbours:
    """The nodes of the fleet as heard so far; feed it each new reading.

    ``other_versions``: sentences on beacons in the newest reading that the fleet's key opened and
    that are in another version's format.
    """

    def __init__(self, key: bytes, own_id: str, issuer: bytes) -> None:
        """``issuer``: the point of the control-plane issuer's key (``trust/voucher.py``)."""
        self._key = key
        self._own_id = own_id
        self._issuer = issuer
        # By node id and, where nothing shows that it is of that node, by source address too:
        # whoever speaks in another's name takes nothing from him.
        self._heard: dict[tuple[str, str], Heard] = {}
        self.other_versions: tuple[str, ...] = ()
        self._seen: dict[str, str] = {}
        self._own_mark: float | None = None
        self._own_heard: float | None = None
        self._told_at = -TELL

    def update(
        self, own_mark: float | None, candidates: Iterable[Candidate], now: float
    ) -> tuple[float | None, tuple[Heard, ...]]:
        """Take up a reading: (when the own beacon last came back, all nodes heard).

        ``now`` in seconds of any clock that never jumps; all times given back are of that clock.
        ``own_mark`` is the network process's note of the own beacon: only its change counts.
        """
        candidates = list(candidates)
        self._mark(own_mark, now)
        spent: Counter[str] = Counter()
        for candidate in candidates:
            if candidate.beacon not in self._seen:
                self._read(candidate, spent, now)
        told = (self._seen.get(one.beacon) for one in candidates)
        self.other_versions = tuple(sorted({one for one in told if one}))[:MAX_TOLD]
        return self._own_heard, self._all(now)

    def take(
        self, own_mark: float | None, opened: Iterable[tuple[str, Beacon, Proof]], now: float
    ) -> tuple[float | None, tuple[Heard, ...]]:
        """The same for beacons that were opened and proved already, each with its source."""
        self._mark(own_mark, now)
        for source, beacon, proof in opened:
            if self._is_new(source, beacon, signed=proof is not Proof.NONE, now=now):
                self._take(source, beacon, proof, now)
        return self._own_heard, self._all(now)

    def _mark(self, own_mark: float | None, now: float) -> None:
        if own_mark is not None and own_mark != self._own_mark:
            self._own_mark, self._own_heard = own_mark, now

    def _read(self, candidate: Candidate, spent: Counter[str], now: float) -> None:
        source = candidate.address
        try:
            said = beacons.open_(self._key, candidate.beacon)
            signed = bool(said.signature)
            if self._is_new(source, said.beacon, signed=signed, now=now):
                if signed and (spent[source] >= CHECKS_EACH or spent.total() >= CHECKS):
                    return  # the next reading has it again, where nobody displaced it
                spent[source] += signed
                self._take(source, said.beacon, beacons.prove(said, self._issuer), now)
            self._remember(candidate.beacon, "")
        except Untrusted as error:
            self._remember(candidate.beacon, "")
            if spent[source] and now - self._told_at >= TELL:
                self._told_at = now
                LOG.warning("%s It came from %s.", error.reason, source)
        except OtherVersion as error:
            self._remember(candidate.beacon, f"{error.reason} {error.remedy}")

    def _remember(self, text: str, told: str) -> None:
        self._seen[text] = told
        while len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]

    def _is_new(self, source: str, beacon: Beacon, *, signed: bool, now: float) -> bool:
        """Worth a look at its proof: counters moved on, and it is no unsigned word in the name of
        one that signs."""
        if beacon.node_id == self._own_id:
            return False
        its_own = self._heard.get((beacon.node_id, ""))
        if not signed and its_own is not None:
            return False
        before = its_own if signed else self._heard.get((beacon.node_id, source))
        if before is None:
            return True
        if beacon.boot == before.beacon.boot:
            return beacon.seq > before.beacon.seq
        # An earlier boot is an echo, unless the node fell silent: its journal may be a new one.
        return beacon.boot > before.beacon.boot or now - before.last >= GONE

    def _take(self, source: str, beacon: Beacon, proof: Proof, now: float) -> None:
        place = (beacon.node_id, source if proof is Proof.NONE else "")
        before = self._heard.get(place)
        if before is None and not self._has_room(source, proof):
            return
        if proof is not Proof.NONE:
            for hint in [one for one in self._heard if one[0] == beacon.node_id and one[1]]:
                del self._heard[hint]  # it has been updated, and signs
        again = before is not None and before.beacon.boot == beacon.boot
        first = before.first if before is not None and again else now
        self._heard[place] = Heard(beacon, first, now, proof, source)

    def _has_room(self, source: str, proof: Proof) -> bool:
        """A place for a node not heard before. Of those that anybody can make up, another of the
        same source gives way, or else one by lot of the source that has most: so nobody is kept
        out, however many are made up."""
        if proof is Proof.ISSUER:
            return sum(one.proof is Proof.ISSUER for one in self._heard.values()) < MAX_NODES
        made_up = [place for place, one in self._heard.items() if one.proof is not Proof.ISSUER]
        of = Counter(self._heard[place].source for place in made_up)
        most = source
        if of[source] < SHARE:
            if len(made_up) < MAX_NODES:
                return True
            most = of.most_common(1)[0][0]
        theirs = [place for place in made_up if self._heard[place].source == most]
        del self._heard[random.choice(theirs)]  # noqa: S311  no secret
        return True

    def _all(self, now: float) -> tuple[Heard, ...]:
        for place in [p for p, one in self._heard.items() if now - one.last >= LAPSE]:
            del self._heard[place]
        return tuple(self._heard.values())


def proved(heard: Iterable[Heard], places: Collection[tuple[str, str]]) -> tuple[Heard, ...]:
    """The same, where nodes proved over TLS that they lead, as (node id, address): of those that
    sign nothing this alone makes one believed."""
    return tuple(
        replace(one, proof=Proof.TLS)
        if one.proof is Proof.NONE and (one.beacon.node_id, one.beacon.address) in places
        else one
        for one in heard
    )
