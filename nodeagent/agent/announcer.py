"""Announces where this node stands, hears the others, and keeps the election's decision.

A thread of the agent. Once a second at most it looks at what the network process heard, opens
the seals, asks the pure election, and says what changed, signed. It is root but parses only beacons
that were sealed with the fleet's key.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace

from nodeagent import paths
from nodeagent.agent.keeper import Voice
from nodeagent.agent.leader_look import LeaderLook
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster.requirements import can_lead
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import ConfigError
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet import handoff
from nodeagent.fleet.beacon import Beacon
from nodeagent.fleet.candidacy import Candidacy, Standing, renewal, said_at_once
from nodeagent.fleet.election import Claim, Decision
from nodeagent.fleet.neighbours import Neighbours, proved
from nodeagent.fleet.peers import Roster
from nodeagent.fleet.sight import Heard, Timing, View, known_leader
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.storage import fsync_latency_ms
from nodeagent.statefile import FOLDER, StateFile
from nodeagent.status import model
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

LOG = logging.getLogger("nodeagent")

IDLE_TICK = 10.0  # seconds between looks on a formed node


class Announcer:
    """Announces, listens and decides. Read ``decision`` and ``heard`` from other threads."""

    def __init__(
        self,
        host: Host,
        reporter: Reporter,
        state_file: StateFile,
        trust: Trust,
        key: NodeKey,
        settings: Settings,
    ) -> None:
        self.host, self.reporter, self.state_file = host, reporter, state_file
        self.trust, self.key, self.settings = trust, key, settings
        self.candidacy = Candidacy(state_file)
        self.heard: tuple[Heard, ...] = ()
        self.serves_grants = False
        self.formed = False
        self.quiet = False
        self.leading = False  # kubeadm init has begun: the decision stands
        self.voice = Voice(trust.beacon_key, trust.issuer_point, trust.voucher(host, key.public))
        self._hearing = Neighbours(self.voice.key, key.node_id, self.voice.issuer)
        self._look = LeaderLook(host, trust, key)
        self._roster = Roster(timeline=reporter.values["timeline"])
        starts = (state_file.values["starts"] or 0) + 1
        state_file.set(starts=starts)
        self._boot = f"{starts:08x}{secrets.token_hex(4)}"
        self._fitness: tuple[int, ...] | None = None
        self._sequence = 0
        self._said: tuple[object, ...] = ()
        self._last: Beacon | None = None
        self._said_at = 0.0
        self._stamps: dict[str, int] = {}
        self._chosen = host.changed(config.ROLE_FILE)

    def elect(self) -> None:
        """From now on this node takes part in the election."""
        self.candidacy.elect(self.host.clock.monotonic())

    @property
    def decision(self) -> Decision:
        """What the election says."""
        return self.candidacy.decision

    def run(self) -> None:
        """Look and tell until the process ends; one bad look never stops the next."""
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  one bad look must not end the announcing
                LOG.warning("the network could not be looked at: %s", error)
            self.host.clock.sleep(self.tick)

    @property
    def tick(self) -> float:
        """Seconds until the next look."""
        return IDLE_TICK if self.formed else self.candidacy.tick(self.host.clock.monotonic())

    def look(self) -> None:
        """One round: settings, what was heard, decision, announcement."""
        self._reload()
        facts = Facts(self.host)
        network = self.settings.network
        address = facts.address(network.interface, network.version)
        self.reporter.set(
            node_name=facts.node_name,
            node_id=self.key.node_id,
            address=address or "",
            page=model.page(address or "", self.settings.status_page == "lan"),
            fleet=self.trust.name,
        )
        own_heard = self._listen()
        mine = self._beacon(facts, address or "")
        decided = self.formed or self.leading or self.state_file.values["role"] is not None
        if not decided:
            self._decide(mine, own_heard)
            mine = replace(mine, **self._standing())
        if address:
            self._announce(mine, address, facts.lan(network.interface))

    def last_said(self) -> Beacon:
        """The newest announcement, for the keeper to go on from; ends this radio's talking."""
        self.quiet = True
        beacon = self._last or self._beacon(Facts(self.host), "")
        return replace(beacon, ready=self.serves_grants, seq=self._sequence + 1)

    def _reload(self) -> None:
        """Take up changed settings (``nodeagent role``) while they can still matter."""
        stamps = {path: self.host.changed(path) for path in config.sources(self.host)}
        if stamps == self._stamps or self.formed:
            return
        self._stamps = stamps
        if stamps.get(config.ROLE_FILE, 0) != self._chosen:
            self._chosen = stamps.get(config.ROLE_FILE, 0)
            self.candidacy.free_vote()
        try:
            self.settings = config.load(self.host).settings
        except ConfigError as error:
            LOG.warning("%s %s", error.reason, error.remedy)

    def _listen(self) -> float | None:
        """Take up what the network process heard; when the own beacon last came back."""
        mark, candidates = handoff.read_heard(self.host)
        now = self.host.clock.monotonic()
        own_heard, heard = self._hearing.update(mark, candidates, now)
        self.heard = proved(heard, self._look.round(heard, now))
        self.reporter.meet(self._roster, self.heard, self._hearing.other_versions)
        return own_heard

    def fitness(self, facts: Facts) -> tuple[int, ...]:
        """Rank of this node, greater is better: fit, fsync class, memory, wired (design, 8)."""
        if self._fitness is None:
            latency = self.state_file.values["fsync_ms"]
            if latency is None:
                latency = round(fsync_latency_ms(self.host, FOLDER), 2)
                self.state_file.set(fsync_ms=latency)
            disk = 2 if latency < 10 else 1 if latency < 50 else 0
            fit = int(can_lead(facts))
            wired = int(facts.wired(self.settings.network.interface))
            fitness = (fit, disk, facts.memory_mib // 256, wired)
            if facts.interface(self.settings.network.interface) is None:
                return fitness  # it is early; the cable may be there in a second
            self._fitness = fitness
        return self._fitness

    def _beacon(self, facts: Facts, address: str) -> Beacon:
        return Beacon(
            node_id=self.key.node_id,
            boot=self._boot,
            name=facts.node_name or "unnamed",
            phase=self.reporter.phase,
            fitness=self.fitness(facts),
            ready=self.serves_grants,
            expected=self.settings.expected_nodes or 0,
            address=address,
            port=paths.ENDPOINT_PORT,
            seq=self._sequence,
            uptime=int(facts.uptime),
            leader=known_leader(self.heard, self.host.clock.monotonic()),
            **self._standing(),
        )

    def _standing(self) -> Standing:
        return self.candidacy.standing(self.settings.role, self.trust.may_lead)

    def _decide(self, mine: Beacon, own_heard: float | None) -> None:
        timing = self.settings.timing
        now = self.host.clock.monotonic()
        before = self.decision
        self.candidacy.consider(
            View(
                me=mine,
                pinned=self.settings.role,
                may_lead=self.trust.may_lead,
                since=self.candidacy.since or now,
                own_heard=own_heard,
                heard=self.heard,
                expected_nodes=self.settings.expected_nodes,
                timing=Timing(timing.listen, timing.hold_down, timing.solo_wait),
                claimed=self.candidacy.claim,
                vote=self.candidacy.vote,
                electors=self.trust.lead_cards,
            ),
            now,
        )
        decision = self.decision
        if isinstance(decision, Claim):
            self.reporter.milestone(
                "claim", f"Offers to lead: {decision.why}", epoch=decision.epoch
            )
        if type(decision) is not type(before):
            LOG.info("election: %s", decision.why)

    def _announce(self, mine: Beacon, address: str, interfaces: tuple[str, ...]) -> None:
        now = self.host.clock.monotonic()
        said = (*said_at_once(mine), address, interfaces)
        renew = renewal(len(self.heard) + 1, self.formed, mine.claim)
        if self.quiet or (said == self._said and now - self._said_at < renew):
            return
        self._said, self._said_at = said, now
        self._sequence += 1
        self._last = mine = replace(mine, seq=self._sequence)
        handoff.write_announcement(
            self.host,
            handoff.Announcement(
                interface_address=address,
                instance=self.key.node_id,
                beacon=beacons.seal(self.voice.key, mine, self.key.private, self.voice.voucher),
                port=paths.ENDPOINT_PORT,
                endpoint=self.serves_grants,
                status_page=self.settings.status_page == "lan",
                phase=mine.phase if self.settings.status_page == "lan" else "",
                interfaces=interfaces[: handoff.MAX_INTERFACES],
            ),
        )
