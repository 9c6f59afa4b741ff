"""Detects other control planes of the fleet, on a node that is one itself.

A beacon is only a hint, and asking costs: so each rival in sight is asked now and then, one at a
time and beside the announcing, by a process of its own (``nodeagent meet``), which alone loads what
that needs. Those that the control-plane issuer vouches for come first, the others by lot: anybody
with a card can make up any number of those.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterable

from nodeagent import formats
from nodeagent.errors import NodeAgentError, TwoControlPlanes
from nodeagent.fleet.beacon import Beacon
from nodeagent.fleet.rivals import Verdict, rivals
from nodeagent.fleet.sight import Heard
from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

AGENT = "/usr/bin/nodeagent"
RIVAL = "/run/nodeagent/rival.json"  # whom to give way to: the whole agent asks once more
ASK_PAUSE = 60.0  # seconds until a rival is asked again
LONG_PAUSE = 600.0  # where people must decide
BOUND = 45.0  # seconds for one; shorter than others remember an announcement


class RivalWatch:
    """``trouble`` is what people must decide, None while there is nothing."""

    def __init__(self, host: Host) -> None:
        self.trouble: NodeAgentError | None = None
        self._host = host
        self._due: dict[tuple[str, str], float] = {}
        self._asking = self._gives_way = False

    def round(self, heard: Iterable[Heard], now: float) -> bool:
        """Begin to ask whoever is in sight and due. False where this node is to give way."""
        heard = list(heard)
        others = rivals(random.sample(heard, len(heard)), now)
        if not others:
            self.trouble = None
        self._due = {place: due for place, due in self._due.items() if now < due}
        due = [one for one in others if (one.node_id, one.address) not in self._due]
        if due and not self._asking:
            self._asking = True
            self._due[due[0].node_id, due[0].address] = now + ASK_PAUSE
            self._host.background(lambda: self._meet(due[0], now))
        return not self._gives_way

    def _meet(self, beacon: Beacon, now: float) -> None:
        try:
            verdict = self._ask(beacon)
            if verdict is Verdict.BOTH_STAY:
                self._due[beacon.node_id, beacon.address] = now + LONG_PAUSE
            elif verdict is Verdict.STEP_DOWN:
                where = {formats.KEY: 1, "address": beacon.address, "port": beacon.port}
                self._host.write(RIVAL, json.dumps(where).encode(), 0o600)
                self._gives_way = True
        except OSError as error:
            LOG.warning("%s was not met: %s", beacon.name, error)
        finally:
            self._asking = False

    def _ask(self, beacon: Beacon) -> Verdict:
        result = self._host.run(AGENT, "meet", beacon.address, str(beacon.port), timeout=BOUND)
        try:
            verdict = Verdict(result.out.strip())
        except ValueError:
            LOG.info("%s was not met: %s", beacon.name, result.err.strip()[-300:])
            return Verdict.NOTHING  # an echo, or it cannot be reached: nothing is changed
        if verdict is Verdict.BOTH_STAY:
            self.trouble = TwoControlPlanes(
                f"{beacon.name} ({beacon.address}) leads a second cluster of this fleet. Neither"
                " gives way by itself, so as to lose nothing.",
                "Move what is needed to one of them. Then run `sudo nodeagent role --worker"
                " --end-cluster` on the other, and `sudo nodeagent role --auto` on its workers.",
            )
        elif verdict is Verdict.STAY:
            LOG.info("%s leads a second cluster of this fleet; it gives way", beacon.name)
        return verdict
