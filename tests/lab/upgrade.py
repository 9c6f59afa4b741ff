"""The package in all its turns: from the newest release to this checkout's, installed in the middle
of every phase; removed, with a reboot without it; installed again; purged. The cluster goes on all
the while."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

from tests.support import released

from . import checks, disk, results
from .board import Board
from .cluster import Cluster
from .guest import Guest, wait
from .place import run_folder, say

# Where a package comes: the phase, and what runs at that moment.
MOMENTS = {
    "preparing": "pidof dpkg",
    "discovering": "true",
    "initialising": "pidof kubeadm",
    "joining": "pidof kubeadm",
    "ready": "true",
}
CARD = "/boot/firmware"
BOUND = 600.0  # seconds
# As people type it; apt waits for the agent's own (apt.conf(5), DPkg::Lock::Timeout).
INSTALL = (
    "sudo DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=900 install"
    " {card}/{name} 2>&1"
)
UNITS = "systemctl is-active nodeagent nodeagent-serve; systemctl list-units --failed --plain -q"
# What belongs to the agent alone; what it configured for others stays (debian/nodeagent.postrm).
OWN = (
    "ls -d /var/lib/nodeagent /var/lib/nodeagent-broker /etc/nodeagent /run/nodeagent"
    " /run/nodeagent-serve /usr/lib/python3/dist-packages/nodeagent /usr/bin/nodeagent"
    " /etc/systemd/system/*.wants/nodeagent* /boot/firmware/nodeagent-status.txt 2>/dev/null"
    " || true; pgrep -f '[b]in/nodeagent' || true"
)


def upgrade(cluster: Cluster) -> checks.Outcome:
    """Form a cluster while its packages change, then take the package away from its nodes."""
    packages: list[Path] = []

    def give(board: Board) -> None:
        packages[:] = packages or newer(cluster.package, len(MOMENTS) + 1)
        for package in packages:
            disk.put(board.card, package.name, package)

    release = list(released.RELEASES)[-1]
    say(f"the cards have the released {release}")
    cluster.power_on(card=give, package=released.package(release))
    came = while_it_forms(cluster, packages)
    checks.until_ready(cluster)
    outcome: checks.Outcome = {}
    for guest in cluster.guests:
        leads = guest is checks.control_plane(cluster)
        needed = {"preparing", "initialising" if leads else "joining", "ready"}
        done = [f"{phase} ({name})" for phase, name in came[guest.name].items()]
        checks.note(
            outcome, f"{guest.name} got newer packages", needed <= set(came[guest.name]),
            ", ".join(done),
        )  # fmt: skip
    groups = (checks.NODE, checks.AGENT, checks.WEB)
    outcome |= checks.perform(cluster, *groups)
    worker, leader = checks.worker(cluster), checks.control_plane(cluster)
    without(worker, leader, outcome)
    last = INSTALL.format(card=CARD, name=packages[-1].name)
    for guest in (worker, leader):
        if guest is leader:
            guest.ssh("sudo apt-get -q -y remove nodeagent", BOUND)
        guest.status = {}
        guest.ssh(last, BOUND)
        # The other one is, all the while.
        wait("it is not ready with the package again", lambda: cluster.ready, BOUND)
    again = checks.perform(cluster, checks.NODE, {"nothing left to do": checks.nothing_to_do})
    outcome |= {f"{name}, installed again": seen for name, seen in again.items()}
    said = worker.ssh("sudo apt-get -q -y purge nodeagent 2>&1", BOUND)
    left = worker.ssh(OWN).split()
    checks.note(outcome, "purge leaves nothing of its own", not left, " ".join(left) or "nothing")
    checks.note(
        outcome, "purge says that the node still is a member",
        "still is a member of its cluster" in said, said.strip()[-200:],
    )  # fmt: skip
    time.sleep(60)  # a kubelet reports every 10 s, and is missed after 40
    purged = checks.perform(cluster, {"all nodes Ready": checks.all_ready}, checks.WEB)
    outcome |= {f"{name}, purged": seen for name, seen in purged.items()}
    measured = {name: ", ".join(phases) for name, phases in came.items()}
    results.write(cluster, "upgrade", {"measured": measured, "checks": outcome})
    return outcome


def newer(package: Path, count: int) -> list[Path]:
    """The same package with higher versions, as dpkg-deb(1) takes it apart and together."""
    folder = run_folder() / "newer"
    tree = folder / "tree"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = (tree / "DEBIAN" / "control").read_text()
    (version,) = (line for line in control.splitlines() if line.startswith("Version: "))
    made = []
    for number in range(1, count + 1):
        (tree / "DEBIAN" / "control").write_text(
            control.replace(version, f"{version}+newer{number}")
        )
        made.append(folder / f"newer{number}.deb")
        argv = ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(made[-1])]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return made


def while_it_forms(cluster: Cluster, packages: list[Path]) -> dict[str, dict[str, str]]:
    """Install a newer package in each phase that a node comes through: phase and package's name
    of each node. Raises LabError."""
    came: dict[str, dict[str, str]] = {guest.name: {} for guest in cluster.guests}

    def look() -> bool:
        for guest in cluster.guests:
            phase, done = guest.phase, came[guest.name]
            if phase in done or phase not in MOMENTS:
                continue
            if not guest.holds(MOMENTS[phase], 30):
                continue
            name = packages[len(done)].name
            say(f"{name} while {phase}", guest.name)
            command = INSTALL.format(card=CARD, name=name)
            # It goes on by itself: apt waits for the agent's own one to end.
            guest.ssh(f"nohup sh -c '{command}' >/var/tmp/{name}.log </dev/null 2>&1 &")
            done[phase] = name
        return cluster.ready and all(settled(one, came[one.name]) for one in cluster.guests)

    wait("the nodes did not become Ready", look, cluster.asked.minutes * 60, 0.5)
    return came


def settled(guest: Guest, came: dict[str, str]) -> bool:
    """The last of the packages is installed, and the agent runs."""
    if "ready" not in came:
        return False
    version = guest.ssh("dpkg-query -W -f '${Version} ${db:Status-Abbrev}' nodeagent").split()
    number = came["ready"].removesuffix(".deb")
    units = guest.ssh(UNITS, check=False).splitlines()
    return version[0].endswith(f"+{number}") and version[1] == "ii" and units == ["active"] * 2


def without(worker: Guest, leader: Guest, outcome: checks.Outcome) -> None:
    """Removed, the node stays in the cluster, and comes back after a reboot."""
    say("apt-get remove nodeagent", worker.name)
    worker.ssh("sudo apt-get -q -y remove nodeagent", BOUND)
    # Of a unit that another only names, systemd says not-found.
    units = worker.ssh(
        "systemctl list-units --all --plain -q 'nodeagent*' | grep -v not-found || true"
    )
    checks.note(outcome, "removed, no unit of it is left", not units.strip(), units.strip())
    name = worker.ssh("hostname").strip()
    worker.reboot_now(BOUND)

    def back() -> bool:
        boot = worker.ssh("cat /proc/sys/kernel/random/boot_id").strip()
        node = json.loads(leader.kubectl("get", "node", name, "-o", "json"))["status"]
        ready = [one["status"] for one in node["conditions"] if one["type"] == "Ready"]
        return bool(node["nodeInfo"]["bootID"] == boot and ready == ["True"])

    took = wait("the node is not back", back, BOUND, 5)
    swaps = worker.ssh("tail -n +2 /proc/swaps").strip()
    seen = f"{name}, after {took:.0f} s; swap: {swaps or 'none'}"
    checks.note(outcome, "without the agent the node comes back after a reboot", not swaps, seen)
