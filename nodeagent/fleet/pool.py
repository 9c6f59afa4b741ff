"""The candidates heard so far: bounded, and fair to the addresses they came from.

Anybody can say anything on mDNS. So each source address has a small share, and when all is full,
whoever holds most gives way: a stranger who floods crowds out only itself.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from nodeagent.fleet.exchange import MAX_CANDIDATES, Candidate

MAX_PER_SOURCE = 4


class Pool:
    """Candidates by (source address, instance)."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[str, Candidate]] = {}

    def add(self, source: str, instance: str, address: str, port: int, beacon: str) -> bool:
        """Take up what ``source`` said of ``instance``; True where that is news."""
        share = self._sources.setdefault(source, {})
        known = share.get(instance)
        if known is not None and known.beacon == beacon:
            return False
        now = int(time.time())
        if known is not None:
            known = replace(known, address=address, port=port, beacon=beacon, last=now)
        else:
            if len(share) >= MAX_PER_SOURCE:
                _drop_one(share)
            elif len(self) >= MAX_CANDIDATES:
                _drop_one(max(self._sources.values(), key=len))
            known = Candidate(address, port, beacon, now, now)
        share[instance] = known
        self._sources = {name: held for name, held in self._sources.items() if held}
        return True

    def holds(self, instance: str, beacon: str) -> bool:
        """True where somebody said exactly this of ``instance``."""
        return any(
            instance in share and share[instance].beacon == beacon
            for share in self._sources.values()
        )

    def __len__(self) -> int:
        return sum(len(share) for share in self._sources.values())

    def all(self) -> list[Candidate]:
        """All candidates, newest last."""
        found = [entry for share in self._sources.values() for entry in share.values()]
        return sorted(found, key=lambda entry: entry.last)


def _drop_one(share: dict[str, Candidate]) -> None:
    """By lot, so that nobody can choose who is forgotten."""
    del share[random.choice(list(share))]  # noqa: S311  no secret
