"""What the agent does with what serve heard, without the agent: on a virtual LAN."""

from __future__ import annotations

import time

from nodeagent.fleet import handoff
from nodeagent.fleet.candidacy import RENEW, TICK
from nodeagent.fleet.neighbours import Neighbours
from tests.support.virtual_lan import Node


def until_heard(worker: Node, leader: Node, bound: float) -> float | None:
    """Seconds until the agent of ``worker`` would know that ``leader`` gives grants; None where it
    took longer than ``bound``. The leader says something new every few seconds meanwhile."""
    neighbours = Neighbours(worker.trust.beacon_key, worker.key.node_id, worker.trust.issuer_point)
    begin = said = time.monotonic()
    while (now := time.monotonic()) - begin < bound:
        if now - said > RENEW:
            said = now
            leader.announce(endpoint=True)
        mark, candidates = handoff.read_heard(worker.host)
        heard = neighbours.update(mark, candidates, now)[1]
        if any(h.beacon.ready and h.beacon.address == leader.address for h in heard):
            return now - begin
        time.sleep(TICK)
    return None
