"""Looks by TLS at those that say that they lead and sign nothing, as nodes of 0.2.0 do.

Such a word is anybody's who has a card, so by itself it is worth nothing; a control plane of the
fleet proves itself on a connection. Beside the announcing and bounded: a few at a time, by lot,
each now and then.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from nodeagent.errors import FleetError, OtherVersion
from nodeagent.fleet.beacon import Proof
from nodeagent.fleet.rivals import MAX_BYTES, Side
from nodeagent.fleet.sight import STALE, Heard, gives_grants
from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.join.which_cluster import PATH
from nodeagent.trust import wire
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

AT_ONCE = 16  # looked at together
AGAIN = 20.0  # seconds until one is looked at again
HOLDS = 60.0  # seconds for which a proof counts

Place = tuple[str, str]  # node id and address


class LeaderLook:
    """Feed it what was heard; it gives who has proved itself."""

    def __init__(self, host: Host, trust: Trust, key: NodeKey) -> None:
        self._host, self._trust, self._key = host, trust, key
        self._asked: dict[Place, float] = {}
        self._proved: dict[Place, float] = {}
        self._busy = False

    def round(self, heard: Iterable[Heard], now: float) -> frozenset[Place]:
        """Those proved lately; begins to look at others where it is time."""
        hints = {
            (h.beacon.node_id, h.beacon.address): h.beacon.port
            for h in heard
            if h.proof is Proof.NONE
            and gives_grants(h.beacon)
            and h.beacon.address
            and now - h.last < STALE
        }
        self._asked = {place: at for place, at in self._asked.items() if now - at < AGAIN}
        due = [place for place in hints if place not in self._asked]
        if due and not self._busy:
            self._busy = True
            chosen = random.sample(due, min(AT_ONCE, len(due)))
            self._asked |= dict.fromkeys(chosen, now)
            ports = {place: hints[place] for place in chosen}
            self._host.background(lambda: self._look(ports))
        return frozenset(place for place, at in self._proved.items() if now - at < HOLDS)

    def _look(self, ports: dict[Place, int]) -> None:
        try:
            places = [(address, port) for (_, address), port in ports.items()]
            told = client.look_up_all(self._trust, self._key, self._host, places, PATH, MAX_BYTES)
            now = self._host.clock.monotonic()
            found = {place for place, said in zip(ports, told, strict=True) if _is(place, said)}
            lately = {place: at for place, at in self._proved.items() if now - at < HOLDS}
            self._proved = lately | dict.fromkeys(found, now)
        except (OSError, FleetError):
            pass  # it is looked again
        finally:
            self._busy = False


def _is(place: Place, said: bytes | None) -> bool:
    """True where a proved control plane says that it is this node."""
    try:
        return said is not None and Side.from_json(said).node_id == place[0]
    except (wire.Malformed, OtherVersion):
        return False
