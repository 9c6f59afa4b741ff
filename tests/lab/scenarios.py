"""The stories that the lab plays. Each gives its checks' results; the first failing one counts."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import checks, results
from .blackouts import blackouts
from .brought import brought
from .carried import carried, carried_plain
from .census import census
from .checks import Outcome
from .cloudinit import cloudinit
from .cluster import Cluster
from .cuts import cuts
from .fat import fat
from .guest import Guest, SshFailed, wait
from .lan import exists
from .meeting import meeting
from .moved import moved
from .people import people
from .place import REPOSITORY, LabError, say
from .script import Baseline
from .trouble import trouble
from .undone import undone
from .upgrade import upgrade


def deadline(cluster: Cluster) -> float:
    """Seconds that forming a cluster may take."""
    return cluster.asked.minutes * 60


def until_formed(cluster: Cluster) -> None:
    """Wait until each agent says ready. Raises LabError."""

    def formed() -> bool:
        if not exists():
            raise LabError("The lab was ended while it ran.")
        return cluster.ready

    wait("the nodes did not become Ready", formed, deadline(cluster), 1)
    cluster.back_online()


def fresh(cluster: Cluster) -> None:
    """New cards, powered on."""
    cluster.power_on()


def total(cluster: Cluster) -> float:
    """From the first power-on to the last node's first ready."""
    spans = [results.timeline(guest) for guest in cluster.guests]
    return round(max(one[-1][1] for one in spans) - min(one[0][1] for one in spans), 1)


def form(cluster: Cluster) -> None:
    fresh(cluster)
    until_formed(cluster)
    cluster.formed = True
    say(f"all nodes Ready {total(cluster):.0f} s after power-on")


def default(cluster: Cluster) -> Outcome:
    """Power on, walk away, look."""
    form(cluster)
    took = total(cluster)
    measured = {"power-on to all Ready, seconds": f"{took:.0f}"}
    ratio = results.baseline_ratio(took)
    if ratio:
        measured["against tests/lab/baseline.sh"] = ratio
    nodes = results.collect(cluster)
    # Budgets first: the Deployment's coming and going would disturb them.
    budgets = checks.perform(cluster, checks.BUDGETS, miss="OVER")
    for name, (within, seen) in budgets.items():
        measured[name] = seen if within else f"{seen} (over the budget)"
    checks.until_ready(cluster)
    start = cluster.asked.start
    if start in ("baked", "mixed"):
        measured["packets of baked boards for an archive or registry"] = str(cluster.tried)
    first = checks.FIRST_BOOT if start == "plain" else checks.PREPARED
    board = checks.PI if cluster.pis else {}
    # `nodeagent verify` does what the web check does and more; one after the other keeps an
    # emulated control plane so busy that neither ends. The other scenarios have that check.
    groups = (first, board, checks.NODE, checks.AGENT, checks.VERIFIED)
    outcome = checks.perform(cluster, *groups)
    name = "default" if start == "plain" else f"start-{start}"
    name += f"-{cluster.asked.kubernetes}" if cluster.asked.kubernetes else ""
    name = results.of_network(cluster, name)
    name += "" if cluster.asked.arch == "amd64" else f"-{cluster.asked.arch}"
    name += "".join(f"-{guest.board.machine}" for guest in cluster.pis)
    results.write(cluster, name, {"nodes": nodes, "measured": measured, "checks": outcome})
    return outcome


def reboot(cluster: Cluster) -> Outcome:
    """All nodes at once, as after a power cut in the house, but orderly."""
    if not cluster.formed:
        form(cluster)
    boots = {guest.name: len(guest.power_ons()) for guest in cluster.guests}
    begin = time.time()
    for guest in cluster.guests:
        guest.status = {}
        guest.reboot()

    def back() -> bool:
        on = all(len(guest.power_ons()) == boots[guest.name] + 1 for guest in cluster.guests)
        return on and cluster.ready

    wait("the nodes did not become Ready after a reboot", back, deadline(cluster))
    leader = checks.control_plane(cluster)
    checks.until_ready(cluster)
    took = time.time() - begin
    say(f"Ready again {took:.0f} s after the reboot; {leader.name} leads")
    outcome = checks.perform(cluster, checks.NODE, checks.AGENT, checks.WEB)
    measured = {"reboot to all Ready again, seconds": f"{took:.0f}"}
    results.write(cluster, "reboot", {"measured": measured, "checks": outcome})
    return outcome


def powercut(cluster: Cluster) -> Outcome:
    """Power fails once while packages are installed and once during kubeadm init."""
    fresh(cluster)
    begin = time.time()
    victim = _first(cluster, "dpkg does not run", "pidof dpkg")
    say("cutting the power while dpkg works", victim.name)
    victim.cut_power()
    # kubeadm has written the API server's manifest and waits for it to come up.
    mid_init = "test -e /etc/kubernetes/manifests/kube-apiserver.yaml && pidof kubeadm"
    leader = _first(cluster, "no kubeadm init", mid_init)
    say("cutting the power during kubeadm init", leader.name)
    leader.cut_power()
    leader.status = {}
    until_formed(cluster)
    cluster.formed = True
    took = time.time() - begin
    say(f"all nodes Ready {took:.0f} s after power-on, in spite of two power cuts")
    checks.until_ready(cluster)
    outcome = checks.perform(cluster, checks.NODE, checks.AGENT, checks.WEB)
    measured = {
        "power-on to all Ready with two power cuts, seconds": f"{took:.0f}",
        "cut while dpkg worked": victim.name,
        "cut during kubeadm init": leader.name,
    }
    nodes = results.collect(cluster)
    results.write(cluster, "powercut", {"nodes": nodes, "measured": measured, "checks": outcome})
    return outcome


def _first(cluster: Cluster, otherwise: str, test: str) -> Guest:
    """The first guest on which a shell test holds."""
    found: list[Guest] = []

    def look() -> bool:
        for guest in cluster.guests:
            try:
                if guest.holds(test, 30):
                    found.append(guest)
                    return True
            except SshFailed:
                continue
        return False

    wait(otherwise, look, deadline(cluster), 0.3)
    return found[0]


def baseline(cluster: Cluster) -> Outcome:
    """The same cards without the agent, and a plain script that does the work in a row."""
    cluster.power_on(agent=False)
    script = Baseline(cluster, REPOSITORY / "tests" / "lab" / "baseline.sh")
    took = script.run()
    say(f"plain script: all nodes Ready {took:.0f} s after power-on")
    outcome = checks.perform(cluster, checks.NODE, checks.WEB)
    measured = {"power-on to all Ready, seconds": f"{took:.0f}"} | script.stages
    results.write(cluster, "baseline", {"measured": measured, "checks": outcome})
    return outcome


SCENARIOS: dict[str, Callable[[Cluster], Outcome]] = {
    "default": default,
    "reboot": reboot,
    "powercut": powercut,
    "baseline": baseline,
    "trouble": trouble,
    "cuts": cuts,
    "fat": fat,
    "reset": undone,
    "rerole": moved,
    "brought": brought,
    "carried": carried,
    "carried-plain": carried_plain,
    "blackouts": blackouts,
    "census": census,
    "meeting": meeting,
    "people": people,
    "upgrade": upgrade,
    "cloudinit": cloudinit,
}
