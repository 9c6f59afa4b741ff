"""Steps: the clock is right. Most Pis have no battery for it, and certificates, apt's lists and
tokens are all refused when it is off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from nodeagent import paths, statefile
from nodeagent.cluster import credentials
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, Run
from nodeagent.host.facts import Facts
from nodeagent.host.timesync import synchronised
from nodeagent.steps.step import Step

# This release of the agent was made after this day, so no right clock shows an earlier one.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
# Nor a later one: its Kubernetes is out of support for years then. A clock that is ahead is worse
# than one that is behind, since certificates made by it are not valid yet once it is right.
OUTLIVED = datetime(2036, 11, 1, tzinfo=UTC)
STOP_BOUND = 120  # seconds
# etcd appends each change to the last of its files, which go up in name (etcd, server/storage/wal).
WRITE_AHEAD = f"{paths.ETCD}/member/wal"
# Written when the system starts and stops, and while a time server answers
# (systemd-random-seed.service(8), systemd-timesyncd.service(8)).
KEPT_TIME = ("/var/lib/systemd/random-seed", "/var/lib/systemd/timesync/clock")


@dataclass(frozen=True)
class LastKnownTime(Step):
    """After a power cut without a time server a clock may begin in a year before the cluster; then
    it goes on from the latest moment that this node knows has passed."""

    name = "last-known-time"
    title = "Set the clock to the latest time that this node knows"
    group = "Board"
    needs_root = True
    why = "A board without a battery may start in the past, where its certificates are not valid."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Nothing on a node that knows no time, and where a time server has set the clock."""
        known = last_known(facts)
        if not facts.live or facts.now >= known or synchronised(facts):
            return
        yield set_to(known)
        # It makes a certificate for itself when it starts, valid for a year from then
        # (k8s.io/apiserver, NewLoopbackClientConfig's), which may be over with this.
        running = facts.ask("crictl", "ps", "-q", "--name", "^kube-apiserver$").out.split()
        if running:
            yield Run(("crictl", "stop", *running), STOP_BOUND)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return "not behind what this node has seen"


def set_to(moment: float) -> Run:
    """Set the clock (seconds since the epoch). By systemd: the agent's unit has no CAP_SYS_TIME,
    and timedated refuses while a time service runs, also one that reaches nobody."""
    return Run((
        "systemd-run", "--quiet", "--wait", "--collect",
        "date", "--utc", f"--set=@{moment:.0f}",
    ))  # fmt: skip


def last_known(facts: Facts) -> float:
    """The latest moment that has surely passed (seconds since the epoch): the last entry in this
    node's history, the begin of a certificate that its cluster gave it, or when etcd wrote last,
    so that a control plane is never behind a record of its cluster, or systemd kept its time; 0
    where none is there or can be."""
    history: object = statefile.remembered(facts.read(statefile.PATH))["history"]
    last: object = history[-1] if isinstance(history, list) and history else {}
    told = last.get("time") if isinstance(last, dict) else None
    moments = [float(told) if isinstance(told, int | float) else 0.0]
    for path in (paths.KUBELET_CLIENT, f"{paths.KUBERNETES_PKI}/apiserver.crt"):
        try:
            moments.append(credentials.begins(facts.read(path) or b"") or 0.0)
        except ValueError:
            continue  # others say what is wrong with it
    journals = sorted(name for name in facts.names(WRITE_AHEAD) if name.endswith(".wal"))
    written = (*KEPT_TIME, *(f"{WRITE_AHEAD}/{name}" for name in journals[-1:]))
    moments += [facts.host.changed(path) / 1e9 for path in written]
    return max((one for one in moments if one < OUTLIVED.timestamp()), default=0.0)


@dataclass(frozen=True)
class Clock(Step):
    """Waits ``timing.clock_wait`` seconds from power-on for a time server; after that a
    believable clock will do, for networks that have none."""

    name = "clock"
    title = "Wait for the right time"
    group = "Network"
    why = "Certificates, package lists and tokens are refused when it is off."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only looks. Raises Blocked."""
        yield from ()
        if not facts.live or synchronised(facts):
            return
        if facts.uptime < settings.timing.clock_wait:
            raise Blocked(
                "Waiting for the time from the network.",
                f"Nothing yet; after {settings.timing.clock_wait} s a believable clock will do.",
                within=settings.timing.clock_wait - facts.uptime,
            )
        if not RELEASED.timestamp() <= facts.now < OUTLIVED.timestamp():
            shown = datetime.fromtimestamp(facts.now, UTC).strftime("%Y-%m-%d %H:%M")
            raise Blocked(
                f"The clock says {shown} UTC, which cannot be, and no time server answers.",
                "Allow NTP (UDP port 123) to the internet, or name a time server in"
                " /etc/systemd/timesyncd.conf; or set the clock with `date -s`.",
            )

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        if synchronised(facts):
            return "set by a time server"
        return "believable, but no time server has answered"
