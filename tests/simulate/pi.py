"""A node in the simulation: a double of the agent around the shipped election.

Shipped: `election`, `candidacy`, `hearing`, `split`. Doubles: the threads of radio, former and
keeper, in turn and with their own periods; kubeadm, which takes its time and may fail.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from nodeagent.fleet.beacon import Beacon, Proof
from nodeagent.fleet.candidacy import Candidacy, renewal, said_at_once
from nodeagent.fleet.election import Claim, Join, Lead, Wait
from nodeagent.fleet.handoff import Candidate
from nodeagent.fleet.neighbours import Neighbours
from nodeagent.fleet.rivals import Side, Verdict, judge, rivals
from nodeagent.fleet.sight import CONTROL_PLANE, Timing, View
from nodeagent.fleet.sight import known_leader as leader_of
from tests.simulate.air import Air
from tests.simulate.memory import Memory, PowerCut
from tests.support.speakers import KEY, POINT, Speaker

TIMING = Timing(listen=10, hold_down=5, solo_wait=180)  # the defaults of nodeagent.yaml
ROUND = 10.0  # as keeper.py
ASK_PAUSE = 60.0  # as keeper.py


@dataclass(frozen=True)
class Make:
    """What a board is, and when it is switched on and off (true seconds)."""

    number: int
    powers: tuple[tuple[float, float], ...]  # (on, off); the last off may be never
    fitness: tuple[int, ...] = (1, 2, 8, 1)
    pinned: str = "auto"
    may_lead: bool = True
    expected: int | None = None
    electors: int | None = None  # boards of the fleet that may lead, as its card says
    prepares: float = 0.0  # seconds from power-on until it takes part
    rate: float = 1.0  # of its clock
    init: float = 120.0  # seconds of kubeadm init
    init_fails: int = 0  # how often, before it succeeds
    join: float = 60.0
    deploys: float | None = None  # when somebody runs a workload on its cluster
    fuse: tuple[int, bool] | None = None  # power is cut at this write to the journal


class Pi:
    """One node. ``look`` does what is due and gives the true seconds until the next look."""

    def __init__(self, make: Make, air: Air, fleet: list[Pi], sealed: bool) -> None:
        self.make, self.air, self.fleet, self.sealed = make, air, fleet, sealed
        self.chance = random.Random(make.number * 7919 + air.chance.randrange(2**30))
        self.speaker = Speaker(1 + self.chance.randrange(2**200), make.may_lead)
        self.node_id = self.speaker.node_id
        self.proof = Proof.ISSUER if make.may_lead else Proof.KEY
        self.memory = Memory()
        if make.fuse is not None:
            self.memory.fuse, self.memory.after = make.fuse
        self.on = False
        self.failures = 0
        self.joined_to: str | None = None
        self.stepped_down_for: list[str] = []
        self.reported = False
        self.events: list[tuple[float, str]] = []

    @property
    def leads(self) -> bool:
        """It has begun kubeadm init and not given up, or has a cluster, switched on or not."""
        return self.memory.values["role"] == CONTROL_PLANE or (self.on and self.leading is not None)

    @property
    def serves(self) -> bool:
        """Grants are to be had from it."""
        return self.on and self.ready

    @property
    def formed(self) -> bool:
        """It is in a cluster and keeps."""
        return self.memory.values["role"] is not None and not self.memory.values["stepping_down"]

    def power_on(self, now: float) -> None:
        """Boot: what the journal has is there, what was heard is not."""
        self.on, self.booted = True, now
        self.ready, self.leading, self.joining, self.resetting = False, None, None, None
        self.pause, self.tries, self.asked = 0.0, 0, -1e9
        self.neighbours = Neighbours(KEY, self.node_id, POINT)
        self.own_mark: float | None = None
        self.heard: tuple[Any, ...] = ()
        self.own_heard: float | None = None
        self.candidacy = Candidacy(self.memory)
        self.seq, self.said, self.said_at = 0, None, 0.0
        self.phase, self.sick = "preparing", False
        self.looked_at_all = -1e9
        self.told: dict[int, Any] = {}
        self.dirty, self.last = True, ("", False)
        starts = (self.memory.values["starts"] or 0) + 1
        self.memory.set(starts=starts)
        self.boot = f"{starts:08x}{self.chance.randrange(2**32):08x}"
        self.air.inboxes[self.make.number].clear()

    leading: float | None
    joining: tuple[float, Pi] | None
    resetting: float | None
    said: tuple[object, ...] | None

    def power_off(self) -> None:
        """At once."""
        self.on, self.ready = False, False

    def clock(self, now: float) -> float:
        """Its monotonic clock, which starts at boot and runs at its own rate."""
        return 5.0 + (now - self.booted) * self.make.rate

    def look(self, now: float) -> float:
        """One round. Raises PowerCut."""
        local = self.clock(now)
        if self.memory.values["role"] == "worker":
            self._announce(now, local)
            return 2 * ROUND / self.make.rate
        news = self._listen(now, local)
        if self.memory.values["stepping_down"]:
            self._reset(now)
        elif self.memory.values["role"] is not None:
            self._keep(now, local)
        else:
            self._take_part(now, local, news)
        self._announce(now, local)
        tick = ROUND if self.formed else self.candidacy.tick(local)
        return tick / self.make.rate

    def _listen(self, now: float, local: float) -> bool:
        """True where there is something new to decide on."""
        found = self.air.heard(self.make.number, now)
        if not found:
            return False
        messages, sources, news = [], [], False
        for source, (message, said) in found:
            if source == self.make.number:
                self.own_mark = now
                news = news or self.memory.values["claim"] is not None
            else:
                messages.append(message)
                sources.append(str(source))
                news = news or self.told.get(source) != said
                self.told[source] = said
        mark = self.own_mark
        if self.sealed:
            said = [Candidate(s, 6444, m, 1, 1) for s, m in zip(sources, messages, strict=True)]
            self.own_heard, self.heard = self.neighbours.update(mark, said, local)
        else:
            told = [(s, *m) for s, m in zip(sources, messages, strict=True)]
            self.own_heard, self.heard = self.neighbours.take(mark, told, local)
        return news

    def _take_part(self, now: float, local: float, news: bool) -> None:
        if self.candidacy.since is None and now - self.booted >= self.make.prepares:
            self.candidacy.elect(local)
            self.phase = "discovering"
        if self.leading is not None:
            self._init(now)
            return
        decision = self.candidacy.decision
        # Named shortcut: nothing but counters moved, before the date that the election asked for.
        if news or self.sealed or not isinstance(decision, Wait) or local >= decision.until:
            self._decide(local)
            decision = self.candidacy.decision
        if self.joining is not None:
            self._join(now)
        elif isinstance(decision, Lead) and now >= self.pause:
            self.leading = now
            self.phase, self.sick = "initialising", False
            self._event(now, "leads")
        elif isinstance(decision, Join):
            self._ask_for_grant(now)
        elif self.sick and now < self.pause:
            self.phase = "failed"  # as Agent.insist; then it waits for the election again
        elif self.candidacy.since is not None and not isinstance(decision, Claim):
            self.phase = "discovering"

    def _decide(self, local: float) -> None:
        make = self.make
        view = View(
            me=self._beacon(local), pinned=make.pinned, may_lead=make.may_lead,
            since=self.candidacy.since or local, own_heard=self.own_heard, heard=self.heard,
            expected_nodes=make.expected, timing=TIMING,
            claimed=self.candidacy.claim, vote=self.candidacy.vote, electors=make.electors,
        )  # fmt: skip
        self.candidacy.consider(view, local)
        self.dirty = True

    def _init(self, now: float) -> None:
        assert self.leading is not None
        if now - self.leading < self.make.init:
            return
        self.leading = None
        if self.failures < self.make.init_fails:
            self.failures += 1
            self.sick, self.phase, self.pause = True, "failed", now + 30
            return
        self.memory.set(role=CONTROL_PLANE, born=int(now))
        self.ready, self.phase = True, "ready"
        self._event(now, "formed")

    def _ask_for_grant(self, now: float) -> None:
        """As `Former.join`: any node heard as ready, by lot; a pause after all refused."""
        if now < self.pause:
            return
        told = {h.beacon.node_id for h in self.heard if h.beacon.ready and h.proof >= Proof.TLS}
        there = [
            pi for pi in self.fleet
            if pi.node_id in told and pi.serves and pi.memory.values["role"] == CONTROL_PLANE
            and self.air.reaches(self.make.number, pi.make.number, now)
        ]  # fmt: skip
        if not there:
            self.tries += 1
            self.pause = now + min(2.0 * 2 ** min(self.tries, 9), 60.0)
            return
        self.tries, self.phase = 0, "joining"
        self.joining = (now, self.chance.choice(there))

    def _join(self, now: float) -> None:
        assert self.joining is not None
        began, target = self.joining
        if now - began < self.make.join:
            return
        self.joining = None
        if not target.serves or not self.air.reaches(self.make.number, target.make.number, now):
            self.pause = now + 4.0
            return
        self.memory.set(role="worker")
        self.joined_to = target.node_id
        self.phase = "ready"
        self._event(now, f"joined {target.make.number}")

    def _keep(self, now: float, local: float) -> None:
        """As the keeper; a control plane that was switched on again opens for joins first."""
        self.phase = "ready"
        self.ready = self.ready or now - self.booted > 30
        if not self.ready or local - self.asked < ASK_PAUSE:
            return
        others = {beacon.node_id for beacon in rivals(self.heard, local)}
        for pi in self.fleet:
            if pi.node_id in others:
                self.asked = local
                if pi.serves and self.air.reaches(self.make.number, pi.make.number, now):
                    self._meet(pi, now)
                if self.memory.values["stepping_down"]:
                    return

    def side(self, now: float, sure: bool) -> Side:
        """As `GET /v1/cluster`; ``sure``: asked of the cluster itself just now."""
        deployed = self.make.deploys is not None and now >= self.make.deploys
        workers = any(
            pi.joined_to == self.node_id or (pi.joining is not None and pi.joining[1] is self)
            for pi in self.fleet if pi is not self and (pi.on or pi.joined_to)
        )  # fmt: skip
        if sure:
            self.known_alone = not deployed and not workers
        claim, born = self.memory.values["claim"], self.memory.values["born"]
        assert claim is not None and born is not None
        return Side(
            self.node_id, f"pi-{self.make.number}", self.node_id[2:].ljust(64, "0"),
            claim["epoch"], born, self.known_alone,
        )  # fmt: skip

    known_alone: bool | None = None

    def _meet(self, other: Pi, now: float) -> None:
        if other.memory.values["role"] != CONTROL_PLANE:
            return
        verdict = judge(self.side(now, sure=True), other.side(now, sure=False))
        if verdict is Verdict.STEP_DOWN:
            self.ready = False
            self.memory.set(stepping_down={"node": other.node_id})
            self.stepped_down_for.append(other.node_id)
            self._event(now, f"steps down for {other.make.number}")
        elif verdict is Verdict.BOTH_STAY:
            self.reported = True

    def _reset(self, now: float) -> None:
        """kubeadm reset: it may be cut, and then begins again."""
        self.ready, self.phase = False, "preparing"
        if self.resetting is None:
            self.resetting = now
        elif now - self.resetting > 40:
            self.memory.set(role=None, claim=None, born=None, stepping_down=None)
            self.resetting = None
            self.known_alone = None
            self.candidacy = Candidacy(self.memory)
            self.candidacy.elect(self.clock(now))
            self._event(now, "was reset")

    def _beacon(self, local: float) -> Beacon:
        make = self.make
        return Beacon(
            node_id=self.node_id, boot=self.boot, name=f"pi-{make.number}", phase=self.phase,
            fitness=make.fitness, ready=self.ready,
            expected=make.expected or 0, address="10.0.0.1", port=6444, seq=self.seq,
            uptime=int(local), leader=leader_of(self.heard, local),
            **self.candidacy.standing(make.pinned, make.may_lead),
        )  # fmt: skip

    def beacon_now(self) -> Beacon:
        """What it would say."""
        return self._beacon(self.clock(self.booted))

    def _announce(self, now: float, local: float) -> None:
        renew = renewal(len(self.heard) + 1, self.formed, self.candidacy.claim is not None)
        now_due = local - self.said_at >= renew
        if not (self.dirty or now_due or self.last != (self.phase, self.ready)):
            return
        self.dirty, self.last = False, (self.phase, self.ready)
        mine = self._beacon(local)
        said = said_at_once(mine)
        if said == self.said and not now_due:
            return
        self.said, self.said_at = said, local
        self.seq += 1
        mine = replace(mine, seq=self.seq)
        message = self.speaker.seal(mine) if self.sealed else (mine, self.proof)
        for tap in self.air.taps:
            tap(mine, message)
        self.air.say(self.make.number, (message, said), now)

    def _event(self, now: float, what: str) -> None:
        self.events.append((round(now, 1), f"{self.make.number} {what}"))


__all__ = ["TIMING", "Make", "Pi", "PowerCut"]
