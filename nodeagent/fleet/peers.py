"""The fleet as people see it: each node's phase and since when, and a timeline.

Made of the beacons that the agent opened. Pure: times are told to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nodeagent.fleet.sight import Heard

if TYPE_CHECKING:
    from nodeagent.status.schema import Moment, Peer

GRAIN = 30.0  # seconds; "heard" moves no finer, or each beacon would be a write
MAX_TIMELINE = 200
MAX_PEERS = 1000  # then those give way that were silent longest


class Roster:
    """Keeps what the other nodes said; ``peers`` and ``timeline`` are as in the status."""

    def __init__(self, peers: Iterable[Peer] = (), timeline: Iterable[Moment] = ()) -> None:
        """Goes on from what a status says; entries of another shape are left out."""
        self._peers = {
            str(peer["node_id"]): peer
            for peer in peers
            if {"node_id", "phase", "since", "heard", "name"} <= set(peer)
        }
        self.timeline = list(timeline)

    @property
    def peers(self) -> list[Peer]:
        """By name; nodes of one name by id."""
        return sorted(self._peers.values(), key=lambda peer: (peer["name"], peer["node_id"]))

    def update(self, heard: Iterable[Heard], monotonic: float, now: float) -> list[Peer]:
        """Take up what was heard; the peers whose phase changed. ``monotonic`` is now on the
        clock of ``heard``, ``now`` in seconds since the epoch."""
        changed = []
        for one in heard:
            beacon = one.beacon
            before = self._peers.get(beacon.node_id)
            last = now - (monotonic - one.last)
            same = before is not None and before["phase"] == beacon.phase
            fresh = before is None or last - before["heard"] >= GRAIN
            peer: Peer = {
                "node_id": beacon.node_id,
                "name": beacon.name,
                "phase": beacon.phase,
                "role": beacon.role,
                "address": beacon.address,
                "since": before["since"] if before and same else round(last, 1),
                "heard": round(last, 1) if before is None or fresh else before["heard"],
            }
            self._peers[beacon.node_id] = peer
            if not same:
                changed.append(peer)
                moment: Moment = {
                    "at": round(last, 1),
                    "name": beacon.name,
                    "phase": beacon.phase,
                    "role": beacon.role,
                }
                self.timeline = [*self.timeline, moment][-MAX_TIMELINE:]
        if len(self._peers) > MAX_PEERS:
            newest = sorted(self._peers, key=lambda node_id: self._peers[node_id]["heard"])
            self._peers = {node_id: self._peers[node_id] for node_id in newest[-MAX_PEERS:]}
        return changed
