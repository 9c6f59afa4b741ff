"""``nodeagent reset`` on a worker: the board is as it was, and can become a member again."""

from __future__ import annotations

import time

from . import checks, disk, results
from .board import Board
from .cluster import Cluster
from .guest import Guest, wait
from .place import run_folder, say

YAML = "/boot/firmware/nodeagent.yaml"
# What the agent changes on a board, in the words of the board.
LOOK = (
    "cat /boot/firmware/cmdline.txt /etc/fstab; ls -A /boot/firmware /etc/modules-load.d"
    " /etc/sysctl.d /etc/apt/sources.list.d /etc/systemd/system.conf.d; apt-mark showhold;"
    " tail -n +2 /proc/swaps | awk '{print $1, $2}' | sort"
)
BOUND = 300.0  # seconds


def undone(cluster: Cluster) -> checks.Outcome:
    """Form a cluster, reset its worker, compare the board with itself before, let it join again."""
    # With wrong settings the agent waits and changes nothing, so that there is a before.
    cluster.power_on(card=spoil)
    before = {}
    for guest in cluster.guests:
        _answer(guest)
        before[guest.name] = guest.ssh(LOOK)
        guest.ssh(f"sudo tee {YAML} >/dev/null", stdin=cluster.settings(guest.board.index))

    checks.until_up(cluster)
    worker, leader = checks.worker(cluster), checks.control_plane(cluster)
    name = worker.ssh("hostname").strip()
    say("nodeagent reset", worker.name)
    begin = time.time()
    print(worker.sudo("nodeagent", "reset", "--yes", timeout=900), flush=True)
    reset_took = time.time() - begin
    enabled = worker.ssh("systemctl is-enabled nodeagent", check=False).strip()
    _reboot(worker)
    after = worker.ssh(LOOK)
    first, last = (worker.power_ons()[at]["arguments"] for at in (0, -1))
    listed = leader.kubectl("get", "nodes", "-o", "name")
    outcome = {
        "the agent is off": (enabled == "disabled", enabled),
        "the board is as before": (
            after == before[worker.name],
            _changes(before[worker.name], after),
        ),
        "the kernel is started as at first": (first == last, last),
        "its node is gone": (f"node/{name}" not in listed, listed),
    }
    checks.show(outcome)
    worker.status = {}
    begin = time.time()
    say("starting anew", worker.name)
    worker.sudo("systemctl", "enable", "--now", "nodeagent", "nodeagent-serve")
    checks.until_up(cluster, "the worker did not join again")
    measured = {
        "nodeagent reset on the worker, seconds": f"{reset_took:.0f}",
        "started anew until Ready again, seconds": f"{time.time() - begin:.0f}",
    }
    outcome |= checks.perform(cluster, checks.NODE, {"nothing left to do": checks.nothing_to_do})
    name = results.of_network(cluster, "reset")
    results.write(cluster, name, {"measured": measured, "checks": outcome})
    return outcome


def spoil(board: Board) -> None:
    """Settings with which the agent waits and changes nothing."""
    wrong = run_folder() / "wrong.yaml"
    wrong.write_text("role: [\n")
    disk.put(board.card, "nodeagent.yaml", wrong)


def _answer(guest: Guest) -> None:
    wait(f"{guest.name} does not answer", lambda: guest.ssh("true") == "", BOUND, 1)


def _reboot(guest: Guest) -> None:
    guest.reboot_now(BOUND)
    _answer(guest)
    # Swap comes up beside SSH.
    guest.ssh("systemctl is-system-running --wait", timeout=BOUND, check=False)


def _changes(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    changes = [f"- {line}" for line in old if line not in new]
    changes += [f"+ {line}" for line in new if line not in old]
    return "; ".join(changes) or "cmdline.txt, fstab, swap, drop-ins, sources, holds"
