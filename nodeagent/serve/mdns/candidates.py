"""The candidates heard so far: bounded, and fair to the addresses they came from.

Anybody can say anything on mDNS, in anybody's name and from anybody's address. So each source
address has a small share, nothing new displaces what the agent may not have read yet, and where
places are short a lot decides, drawn by each announcement when it comes: all that was said in the
same while has the same chance, however often somebody repeats himself. When all is full, whoever
holds most gives way: a stranger who floods crowds out only itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import NamedTuple

from nodeagent.fleet.handoff import MAX_CANDIDATES, Candidate

MAX_PER_SOURCE = 16  # the more, the sooner a node is heard whose own address is flooded in
# Seconds. Agents that form a cluster read every 1 to 3, the others every 10. The longer an entry
# holds its place, the more of a flood a newcomer competes with.
HOLD = 3.5  # until an entry gives way where places are short
STAY = 12.0  # until a newer one of the same node replaces it


class _Entry(NamedTuple):
    """A candidate; ``heard`` on the monotonic clock. The lowest ``lot`` wins."""

    candidate: Candidate
    instance: str
    heard: float
    lot: float


class Pool:
    """Candidates by (source address, sealed beacon)."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[str, _Entry]] = {}

    def add(
        self,
        source: str,
        instance: str,
        address: str,
        port: int,
        beacon: str,
        now: float | None = None,
    ) -> bool:
        """Take up what ``source`` said of ``instance``; True where that changed the pool.

        ``now`` is on the monotonic clock; None: this moment.
        """
        now = time.monotonic() if now is None else now
        share = self._sources.get(source, {})
        if beacon in share:
            return False
        first = last = int(time.time())
        for held, entry in list(share.items()):
            if entry.instance == instance and now - entry.heard > STAY:
                first = min(first, entry.candidate.first)
                del share[held]
        candidate = Candidate(address, port, beacon, first, last)
        share[beacon] = _Entry(candidate, instance, now, random.random())  # noqa: S311  no secret
        self._sources[source] = share
        if len(share) > MAX_PER_SOURCE:
            self._drop_one([source], now)
        elif len(self) > MAX_CANDIDATES:
            most = max(map(len, self._sources.values()))
            self._drop_one([s for s, held in self._sources.items() if len(held) == most], now)
        return beacon in self._sources.get(source, {})

    def holds(self, instance: str, beacon: str) -> bool:
        """True where somebody said exactly this of ``instance``."""
        held = (share[beacon] for share in self._sources.values() if beacon in share)
        return any(entry.instance == instance for entry in held)

    def __len__(self) -> int:
        return sum(map(len, self._sources.values()))

    def all(self) -> list[Candidate]:
        """All candidates, newest last."""
        found = [entry for share in self._sources.values() for entry in share.values()]
        return [entry.candidate for entry in sorted(found, key=lambda entry: entry.heard)]

    def _drop_one(self, sources: Iterable[str], now: float) -> None:
        """The oldest of what the agent has read long since; else the highest lot."""
        places = [(source, beacon) for source in sources for beacon in self._sources[source]]

        def loses(place: tuple[str, str]) -> tuple[bool, float]:
            entry = self._sources[place[0]][place[1]]
            age = now - entry.heard
            return (True, age) if age > HOLD else (False, entry.lot)

        source, beacon = max(places, key=loses)
        del self._sources[source][beacon]
        if not self._sources[source]:
            del self._sources[source]
