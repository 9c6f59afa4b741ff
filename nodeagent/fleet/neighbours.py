"""What the agent itself remembers of the beacons it opened.

The network process may lose, repeat or invent candidates, and sealed beacons can be replayed by
anyone. So a node counts as heard only when its counters moved on, at the moment the agent saw
that, on the agent's own clock; and a node once heard is never displaced by what strangers send.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.errors import OtherVersion, Untrusted
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet.election import GONE, Heard

MAX_NODES = 1000  # only holders of the beacon key can reach it
MAX_SEEN = 4096
MAX_TOLD = 8  # nodes of other versions


class Neighbours:
    """The nodes of the fleet as heard so far; feed it each new reading.

    ``other_versions``: sentences on beacons in the newest reading that the fleet's key opened and
    that are in another version's format.
    """

    def __init__(self, key: bytes, own_id: str) -> None:
        self._key = key
        self._own_id = own_id
        self._heard: dict[str, Heard] = {}
        self.other_versions: tuple[str, ...] = ()
        self._seen: dict[str, str] = {}
        self._own_mark: float | None = None
        self._own_heard: float | None = None

    def update(
        self, own_mark: float | None, sealed: Iterable[str], now: float
    ) -> tuple[float | None, tuple[Heard, ...]]:
        """Take up a reading: (when the own beacon last came back, all nodes ever heard).

        ``now`` in seconds of any clock that never jumps; all times given back are of that clock.
        ``own_mark`` is the network process's note of the own beacon: only its change counts.
        """
        sealed = list(sealed)
        heard = self.take(own_mark, self._opened(sealed), now)
        told = (self._seen.get(text) for text in sealed)
        self.other_versions = tuple(sorted({one for one in told if one}))[:MAX_TOLD]
        return heard

    def take(
        self, own_mark: float | None, opened: Iterable[beacons.Beacon], now: float
    ) -> tuple[float | None, tuple[Heard, ...]]:
        """The same for beacons whose seals were opened already."""
        if own_mark is not None and own_mark != self._own_mark:
            self._own_mark, self._own_heard = own_mark, now
        for beacon in opened:
            self._take(beacon, now)
        return self._own_heard, tuple(self._heard.values())

    def _opened(self, sealed: Iterable[str]) -> Iterable[beacons.Beacon]:
        for text in sealed:
            if text in self._seen:
                continue
            self._seen[text] = ""
            while len(self._seen) > MAX_SEEN:
                del self._seen[next(iter(self._seen))]
            try:
                yield beacons.open_(self._key, text)
            except Untrusted:
                continue
            except OtherVersion as error:
                self._seen[text] = f"{error.reason} {error.remedy}"

    def _take(self, beacon: beacons.Beacon, now: float) -> None:
        if beacon.node_id == self._own_id:
            return
        before = self._heard.get(beacon.node_id)
        if before is None:
            if len(self._heard) < MAX_NODES:
                self._heard[beacon.node_id] = Heard(beacon, now, now)
        elif beacon.boot == before.beacon.boot:
            if beacon.seq > before.beacon.seq:
                self._heard[beacon.node_id] = Heard(beacon, before.first, now)
        # An earlier boot is an echo, unless the node fell silent: its journal may be a new one.
        elif beacon.boot > before.beacon.boot or now - before.last >= GONE:
            self._heard[beacon.node_id] = Heard(beacon, now, now)
