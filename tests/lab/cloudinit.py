"""cloud-init and the agent side by side: settings through user-data and vendor-data, a clean
``cloud-init status``, names that stay, cloud-init switched off, and ``cloud-init clean``."""

from __future__ import annotations

import time
from textwrap import indent

from . import checks, disk, results
from .board import Board
from .cluster import Cluster
from .guest import Guest, wait
from .place import run_folder, say

FOLDER = "/etc/nodeagent/config.d"
# Where each board's settings come from: the file on its boot partition, and what that writes.
SOURCES = {1: ("user-data", "50-user.yaml"), 2: ("vendor-data", "10-vendor.yaml")}
BOUND = 600.0  # seconds
KEYS = "sudo ls /var/lib/nodeagent /var/lib/nodeagent-broker 2>/dev/null || true"


def cloudinit(cluster: Cluster) -> checks.Outcome:
    """A cluster whose settings cloud-init wrote; then reboots without it; then it forgets."""

    def write(board: Board) -> None:
        disk.remove(board.card, "nodeagent.yaml")
        name, file = SOURCES[board.index]
        settings = cluster.settings(board.index)
        there = disk.read(board.card, name) or "#cloud-config\n"
        made = run_folder() / f"{board.name}.{name}"
        made.write_text(there + write_files(f"{FOLDER}/{file}", settings))
        disk.put(board.card, name, made)

    cluster.power_on(card=write)
    checks.until_up(cluster)
    outcome: checks.Outcome = {}
    for guest in cluster.guests:
        source, file = SOURCES[guest.board.index]
        origin = guest.ssh("nodeagent config | grep expected_nodes")
        checks.note(outcome, f"{guest.name}: settings from {source}", file in origin, origin)
        content(outcome, guest)
    names = [guest.ssh("hostname").strip() for guest in cluster.guests]
    known = all(guest.ssh("getent hosts $(hostname)", check=False) for guest in cluster.guests)
    own = known and len({*names, "raspberrypi"}) == len(names) + 1
    checks.note(outcome, "each has a name of its own, and knows it", own, f"{names}")
    outcome |= checks.perform(cluster, checks.NODE, checks.AGENT)

    say("reboot, on the worker without cloud-init")
    worker = checks.worker(cluster)
    worker.sudo("touch", "/etc/cloud/cloud-init.disabled")
    begin = time.time()
    for guest in cluster.guests:
        guest.reboot_now(BOUND)
    wait("the nodes did not become Ready again", lambda: cluster.ready, BOUND, 1)
    checks.until_ready(cluster)
    took = time.time() - begin
    after = [guest.ssh("hostname").strip() for guest in cluster.guests]
    checks.note(outcome, "the names are kept over a reboot", after == names, f"{after}")
    status = worker.ssh("cloud-init status", check=False).strip()
    checks.note(outcome, "the worker is Ready without cloud-init", "disabled" in status, status)
    content(outcome, next(guest for guest in cluster.guests if guest is not worker))

    say("cloud-init clean", worker.name)
    worker.sudo("rm", "/etc/cloud/cloud-init.disabled")
    said = worker.ssh("sudo cloud-init clean 2>&1")
    left = worker.ssh(KEYS).split()
    checks.note(outcome, "cloud-init clean: keys and role are gone", not left, f"{left} {said}")
    worker.reboot_now(BOUND)
    wait("the cleaned node does not ask for a fleet", lambda: code(worker) == "E300", BOUND, 1)
    checks.note(outcome, "and the node asks for a fleet file", True, code(worker))
    measured = {"reboot until all Ready, seconds": f"{took:.0f}"}
    results.write(cluster, "cloudinit", {"measured": measured, "checks": outcome})
    return outcome


def write_files(path: str, text: str) -> str:
    """cloud-config that writes one file (cloud-init docs, "Write Files")."""
    return f"write_files:\n  - path: {path}\n    content: |\n{indent(text, '      ')}"


def content(outcome: checks.Outcome, guest: Guest) -> None:
    """cloud-init ended well, without a warning, and its files are valid (2 is degraded:
    cloud-init docs, "How to debug")."""
    said = guest.ssh("sudo cloud-init status --wait --long; echo status $?", BOUND, check=False)
    valid = guest.ssh("sudo cloud-init schema --system 2>&1; echo status $?", 120, check=False)
    well = "status 0" in said and "status: done" in said and "recoverable_errors: {}" in said
    check = f"{guest.name}: cloud-init is content ({len(guest.power_ons())} power-ons)"
    checks.note(outcome, check, well and "status 0" in valid, " ".join(f"{said} {valid}".split()))


def code(guest: Guest) -> str:
    """Of the agent's problem."""
    return str((guest.status.get("error") or {}).get("code", ""))
