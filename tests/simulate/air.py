"""A double of the network: loss, delay, partitions, deaf links, and an attacker who replays."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodeagent.fleet.handoff import MAX_CANDIDATES
from nodeagent.serve.mdns.candidates import HOLD


@dataclass(frozen=True)
class Partition:
    """From ``begin`` to ``end`` nothing passes between the nodes in ``one`` and the others."""

    begin: float
    end: float
    one: frozenset[int]


@dataclass
class Air:
    """Carries beacons as they are (or sealed) from each node to each other's inbox."""

    chance: random.Random
    size: int
    loss: float = 0.0
    delay: float = 0.1
    partitions: Sequence[Partition] = ()
    deaf: frozenset[tuple[int, int]] = frozenset()  # (from, to): never heard, until deaf_end
    deaf_end: float = 0.0
    replays: bool = False
    sent: int = 0
    inboxes: list[list[tuple[float, int, Any]]] = field(default_factory=list)
    records: list[tuple[int, Any]] = field(default_factory=list)
    taps: list[Callable[[Any, Any], None]] = field(default_factory=list)  # who listens in
    read: list[list[float]] = field(default_factory=list)  # when those came that compete still

    def __post_init__(self) -> None:
        self.inboxes = [[] for _ in range(self.size)]
        self.read = [[] for _ in range(self.size)]

    def passes(self, one: int, other: int, now: float) -> bool:
        """True where the network carries something from ``one`` to ``other`` now."""
        if (one, other) in self.deaf and now < self.deaf_end:
            return False
        return all(
            (one in p.one) == (other in p.one) for p in self.partitions if p.begin <= now < p.end
        )

    def reaches(self, one: int, other: int, now: float) -> bool:
        """True where a TLS connection can be made: both ways."""
        return self.passes(one, other, now) and self.passes(other, one, now)

    def say(self, sender: int, message: Any, now: float) -> None:
        """A multicast; each receiver loses it or not for itself. The sender hears itself."""
        self.sent += 1
        draw, loss, delay = self.chance.random, self.loss, self.delay
        quiet = not self.deaf and not any(p.begin <= now < p.end for p in self.partitions)
        for receiver, inbox in enumerate(self.inboxes):
            if draw() >= loss and (quiet or self.passes(sender, receiver, now)):
                inbox.append((now + delay * draw(), sender, message))
        if self.replays:
            if len(self.records) < 500:
                self.records.append((sender, message))
            else:
                self.records[self.chance.randrange(500)] = (sender, message)
            if draw() < 0.5:
                self._replay(now)

    def slip(self, source: int, message: Any, receivers: Iterable[int], now: float) -> None:
        """The attacker says something, to these alone; what parts the others does not part it."""
        for receiver in receivers:
            self.inboxes[receiver].append(
                (now + self.delay * self.chance.random(), source, message)
            )

    def _replay(self, now: float) -> None:
        """The attacker says something again that it heard before, to everybody."""
        sender, message = self.chance.choice(self.records)
        late = now + self.chance.choice((1.0, 30.0, 300.0)) * self.chance.random()
        for inbox in self.inboxes:
            # From an address of its own: it cannot take the place of what the sender says.
            inbox.append((late, -1 - sender, message))

    def heard(self, receiver: int, now: float) -> list[tuple[int, Any]]:
        """What came in since the last look: of each source the last.

        As ``serve/mdns/candidates.py`` has it: what came lately, read or not, draws lots for its
        places; the own echo needs none.
        """
        inbox = self.inboxes[receiver]
        if not inbox:
            return []
        came = sorted((entry for entry in inbox if entry[0] <= now), key=_when)
        self.inboxes[receiver] = [entry for entry in inbox if entry[0] > now]
        rivals = self.read[receiver]
        rivals += [when for when, sender, _ in came if sender != receiver]
        if len(rivals) > MAX_CANDIDATES:
            rivals[:] = [when for when in rivals if when > now - HOLD]
            draw, share = self.chance.random, MAX_CANDIDATES / max(len(rivals), len(came))
            came = [entry for entry in came if entry[1] == receiver or draw() < share]
        return list({sender: message for _, sender, message in came}.items())


def _when(entry: tuple[float, int, Any]) -> float:
    return entry[0]
