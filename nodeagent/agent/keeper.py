"""The keeper: what is left of the agent on a formed node (``python3 -m nodeagent.agent.keeper``).

Once a node is Ready the agent turns into this by execve(2), as the same process for systemd. It
announces the node, looks after the kubelet and pets the watchdog with a third of the memory,
because it loads none of what forming a cluster needs. When something is wrong for a while it turns
back into the whole agent, which plans from the world as it is.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import asdict, fields, replace
from typing import Any, NamedTuple, NoReturn, TypedDict

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nodeagent import formats, paths, statefile
from nodeagent.agent import inventory
from nodeagent.agent.moved import Moved
from nodeagent.agent.reporter import Reporter
from nodeagent.agent.rival_watch import AGENT, RivalWatch
from nodeagent.cluster import names
from nodeagent.cluster.health import answers, api_server, kubelet_healthy
from nodeagent.errors import Blocked, CommandFailed, OtherVersion
from nodeagent.fleet import beacon as beacons
from nodeagent.fleet import handoff
from nodeagent.fleet.beacon import Beacon
from nodeagent.fleet.neighbours import Neighbours
from nodeagent.fleet.peers import Roster
from nodeagent.fleet.sight import GONE, Heard
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.reboot import power_off
from nodeagent.join import waiting_file
from nodeagent.status import model

FORMAT = 1  # of the handover
ROUND = 10.0  # seconds between rounds
RENEW = 20.0  # seconds between announcements; a beacon that is not renewed for 60 s is stale
API_LOOK = 30.0  # seconds between looks whether the API server takes a connection, while it does
AWAY = 4  # looks in a row without one until it is said: a busy small board drops some
PATIENCE = 30  # rounds without a healthy kubelet until the whole agent has another look
DAY = 86400.0  # seconds between looks whether the key of a package repository runs out
RENEWAL_DUE = 3  # status of `nodeagent renew-keys`: the cluster's certificates end soon
ELSEWHERE = 4  # status of `nodeagent seek`: the control plane is at another address
OFF = 5  # likewise: the whole cluster is being switched off (``all_off.py``)
OFF_BOUND = 300.0  # seconds for it; half of the unit's WatchdogSec
SEEK, SEEK_AT_MOST = 30.0, 120.0  # seconds between two of these, at first and after a while
KEYS_BOUND = 40.0  # seconds for one; shorter than others remember an announcement
RESTATE = 3 * DAY  # until the agent vouches for its cluster anew, which holds for a week
HOUR = 3600.0  # seconds between looks at certificates and hardware
COUNT = 60.0  # seconds between two counts of the nodes, at least


class Handover(TypedDict):
    """What the agent leaves to its keeper; ``beacon`` by the names of its fields."""

    beacon: Any
    key: str  # base64, as the two below
    issuer: str
    voucher: str
    interface: str
    page: bool


class Voice(NamedTuple):
    """What announcing takes, besides the node's own key: the fleet's beacon key, the point of its
    control-plane issuer's, and the node's voucher."""

    key: bytes
    issuer: bytes
    voucher: bytes


def hand_over(host: Host, beacon: Beacon, voice: Voice, interface: str, page: bool) -> NoReturn:
    """Turn this process into a keeper that goes on announcing ``beacon``. Raises OSError."""
    content: Handover = {
        "beacon": asdict(beacon),
        "key": base64.b64encode(voice.key).decode(),
        "issuer": base64.b64encode(voice.issuer).decode(),
        "voucher": base64.b64encode(voice.voucher).decode(),
        "interface": interface,
        "page": page,
    }
    data = json.dumps({formats.KEY: FORMAT, **content}).encode()
    host.write(paths.HANDOVER, data, 0o600)
    host.become(sys.executable, "-P", "-m", "nodeagent.agent.keeper")


def _own_key(host: Host) -> ec.EllipticCurvePrivateKey:
    """As ``NodeKey``, without what certificates need. Raises OSError, ValueError."""
    key = load_pem_private_key(host.read(paths.NODE_KEY) or b"", None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the node's key is of another kind")
    return key


def switch_off(host: Host, reporter: Reporter) -> None:
    """Turn this board off, as its control plane wants it. Comes back where that fails, or systemd
    has not ended this process in ``OFF_BOUND``."""
    said = "The cluster is being switched off: this board turns itself off"
    reporter.milestone("off", said)
    reporter.enter(reporter.phase, said)
    try:
        power_off(host)
        host.clock.sleep(OFF_BOUND)
    except CommandFailed as error:
        reporter.trouble(error, failed=False)


class Keeper:
    """Announces and looks, one round after the other, in one thread."""

    def __init__(self, host: Host) -> None:
        """Raises OSError, ValueError, KeyError, TypeError where the handover is missing or damaged,
        OtherVersion where this is another version than the agent that wrote it."""
        given = json.loads(host.read(paths.HANDOVER) or b"")
        formats.check(given[formats.KEY], paths.HANDOVER, FORMAT)
        content: Handover = given
        self.host = host
        self.key = base64.b64decode(content["key"])
        # An agent of 0.2.0 that was updated under its feet left none; its successor does.
        self.voucher = base64.b64decode(content.get("voucher", ""))
        self.signer = _own_key(host)
        said = content["beacon"]
        known = {one.name: said[one.name] for one in fields(Beacon) if one.name in said}
        self.beacon = Beacon(**{**known, "fitness": tuple(known["fitness"])})
        self.interface = content["interface"]
        self.page = content["page"]
        self.reporter = Reporter(host, model.parse(host.read(paths.STATUS) or b""))
        self.announced = -RENEW
        self.keys_seen = host.clock.monotonic()
        self.looked = host.clock.monotonic()
        self.ailing = 0
        self.asked = host.clock.monotonic()
        self.server: tuple[str, int] | None = None
        self.unanswered = 0
        self.sought, self.seek_pause = -SEEK, SEEK
        self.not_followed = ""  # who answered, and is not this cluster's control plane
        self.moved = Moved(host)
        # A worker leaves the fleet's whole view to the control plane.
        self.leads = self.beacon.role == "control-plane"
        self.stated = statefile.remembered(host.read(statefile.PATH))["stated"] or host.clock.now()
        peers = self.reporter.values["peers"] if self.leads else []
        self.roster = Roster(peers, self.reporter.values["timeline"])
        issuer = base64.b64decode(content.get("issuer", ""))
        self.neighbours = Neighbours(self.key, self.beacon.node_id, issuer)
        self.rival_watch = RivalWatch(host)
        # The others, and whether they were ready, when nodes were counted.
        self.others: set[tuple[str, bool]] | None = None
        self.counted = -COUNT  # when that was tried
        self.reporter.set(peers=self.roster.peers)

    def round(self) -> bool:
        """One round. False when the whole agent should have a look."""
        self.host.notify("WATCHDOG=1")
        facts = Facts(self.host)
        version = 6 if ":" in self.beacon.address else 4
        address = facts.address(self.interface, version) or self.beacon.address
        now = self.host.clock.monotonic()
        if address != self.beacon.address or now - self.announced >= RENEW:
            interfaces = facts.lan(self.interface)[: handoff.MAX_INTERFACES]
            self._announce(address, interfaces, int(facts.uptime))
            self.announced = now
        moved = self.moved.look(address)
        if self.moved.steady:
            return False  # the whole agent has the cluster's files follow
        if now - self.keys_seen >= DAY:
            self.keys_seen = now
            # A process of its own, so that what it needs does not stay in memory here.
            if self.host.run(AGENT, "renew-keys", timeout=KEYS_BOUND).status == RENEWAL_DUE:
                return False
        if self.leads and not 0 <= self.host.clock.now() - self.stated < RESTATE:
            return False  # the whole agent vouches for its cluster anew; or the clock was set
        if now - self.looked >= HOUR:
            self.looked = now
            told = self.host.run(AGENT, "inventory", timeout=KEYS_BOUND)
            self.reporter.take_stock(inventory.parse(told.out))
        heard = self._listen(now) if self.leads else ()
        if self.leads and not self.rival_watch.round(heard, now):
            return False
        if kubelet_healthy():
            self.ailing = 0
            away = self._away(now)
            trouble = self.rival_watch.trouble or moved or away
            if self.leads and trouble is None:  # else it would wait for an API server that is away
                self._count(heard, now)
            sought = self._seek(now)
            if sought == ELSEWHERE:
                return False  # the whole agent follows it
            if sought == OFF:
                switch_off(self.host, self.reporter)
            elif trouble is not None:
                self.reporter.trouble(trouble, failed=False)
            elif self.reporter.values["error"] is not None:
                self.reporter.enter("ready", "Part of the cluster")
        else:
            self.ailing += 1
            self.reporter.trouble(
                Blocked(
                    "The kubelet does not answer.",
                    "It restarts by itself, after `nodeagent fleet off` within some minutes; if it"
                    " stays, see `journalctl -u kubelet`.",
                ),
                failed=False,
            )
        return self.ailing < PATIENCE

    def _count(self, heard: tuple[Heard, ...], now: float) -> None:
        """Have the nodes counted when others came or went, and each hour: a control plane takes
        workloads while it is the only one. In a process of its own, as the others."""
        there = (one.beacon for one in heard if now - one.last < GONE)
        # One that went before it was heard as ready may have been a node all the same.
        others = {(beacon.node_id, beacon.phase == "ready") for beacon in there}
        due = COUNT if others != self.others else HOUR
        if now - self.counted >= due:
            self.counted = now
            done = self.host.run(AGENT, "only-node", timeout=KEYS_BOUND)
            self.others = others if done.status == 0 else None

    def _away(self, now: float) -> Blocked | None:
        """Whether the control plane has been silent for a while: the kubelet is well without it."""
        if now - self.asked >= (API_LOOK if self.unanswered == 0 else ROUND):
            self.asked = now
            self.server = api_server(self.host.text(paths.KUBELET_CONF) or "")
            there = self.server is None or answers(*self.server)
            self.unanswered = 0 if there else self.unanswered + 1
        if self.server is None or self.unanswered < AWAY:
            return None
        if self.leads:
            return Blocked(
                "The API server of this node does not answer.",
                "It restarts by itself; if it stays, see `journalctl -u kubelet`.",
            )
        known = names.addresses_of(self.host.text(paths.HOSTS) or "", self.server[0])
        at = ", ".join(known) or self.server[0]
        return Blocked(
            f"The control plane at {at} does not answer. Pods here go on as they are."
            + (self.not_followed and f" {self.not_followed}"),
            "Check that that board is powered on and on the network. Where it has another address"
            " now, this node looks for it by itself; if the network carries no multicast, write the"
            " address as `control_plane: [ADDRESS]` into nodeagent.yaml.",
        )

    def _seek(self, now: float) -> int:
        """What a worker learns of its silent control plane: ELSEWHERE, OFF, or something else."""
        if self.leads or self.unanswered < AWAY:
            self.seek_pause, self.not_followed = SEEK, ""
            return 0
        if now - self.sought < self.seek_pause:
            return 0
        self.sought, self.seek_pause = now, min(2 * self.seek_pause, SEEK_AT_MOST)
        done = self.host.run(AGENT, "seek", timeout=KEYS_BOUND)
        self.not_followed = done.out.strip()
        return done.status

    def _listen(self, now: float) -> tuple[Heard, ...]:
        """Who of the fleet stands where; who may join now."""
        mark, candidates = handoff.read_heard(self.host)
        _, heard = self.neighbours.update(mark, candidates, now)
        self.reporter.meet(self.roster, heard, self.neighbours.other_versions)
        approvals, tokens = waiting_file.read(self.host)
        self.reporter.set(approvals=approvals, tokens=tokens)
        return heard

    def _announce(self, address: str, interfaces: tuple[str, ...], uptime: int) -> None:
        self.beacon = replace(
            self.beacon, address=address, seq=self.beacon.seq + 1, uptime=uptime, phase="ready"
        )
        self.reporter.set(address=address, page=model.page(address, self.page))
        handoff.write_announcement(
            self.host,
            handoff.Announcement(
                interface_address=address,
                instance=self.beacon.node_id,
                beacon=beacons.seal(self.key, self.beacon, self.signer, self.voucher),
                port=self.beacon.port,
                endpoint=self.beacon.ready,
                status_page=self.page,
                phase="ready" if self.page else "",
                interfaces=interfaces,
            ),
        )


def main() -> NoReturn:
    """Keep the node until something is wrong, then become the whole agent again."""
    host = Host()
    try:
        keeper = Keeper(host)
        while keeper.round():
            host.clock.sleep(ROUND)
    except (OSError, ValueError, KeyError, TypeError, OtherVersion) as error:
        sys.stderr.write(f"the keeper ends: {error}\n")
        host.clock.sleep(ROUND)
    host.become(AGENT, "run")  # the whole agent, same process for systemd


if __name__ == "__main__":
    main()
