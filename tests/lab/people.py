"""Approve mode with people in it: who waits, who is let in, who is thrown out, who comes back."""

from __future__ import annotations

import functools
import re
import time
from typing import Any

from . import checks, results
from .cluster import Cluster
from .guest import Guest, SshFailed, wait
from .place import say

KUBELET = "--kubeconfig=/etc/kubernetes/kubelet.conf"
BOUND = 900.0  # seconds; a leader forms meanwhile
QUIET = 60.0  # seconds in which a thrown out kubelet may try


def people(cluster: Cluster) -> checks.Outcome:
    """The worker is approved by its code, revoked, refused, and approved again after a reset."""
    cluster.power_on(approve=True)
    leader, worker = cluster.guests[:2]
    outcome: checks.Outcome = {}

    note = functools.partial(checks.note, outcome)

    code = _waits(worker)
    wait("the control plane did not become Ready", lambda: leader.ready, BOUND, 1)
    listed = leader.sudo("nodeagent", "nodes")
    print(listed, flush=True)
    note("nobody is in without a person", len(checks.nodes(cluster)) == 1, f"{code} waits")
    note("who waits is listed", code in listed, "nodeagent nodes")
    wait("the control plane's status does not show who waits", lambda: _shown(leader, code), 60, 1)
    note("who waits is in the control plane's status", True, "approvals")
    begin = time.time()
    print(leader.sudo("nodeagent", "approve", code), flush=True)
    checks.until_up(cluster)
    approved = time.time() - begin
    name = worker.ssh("hostname").strip()

    say("nodeagent revoke", worker.name)
    print(leader.sudo("nodeagent", "revoke", name), flush=True)
    said, there = _comes_back(cluster, leader, worker, name)
    note("a revoked node cannot come back", not there and "revoked" in said, said[-160:])

    worker.sudo("nodeagent", "reset", "--yes", timeout=900)
    worker.status = {}
    worker.sudo("systemctl", "enable", "--now", "nodeagent", "nodeagent-serve")
    wait("the revoked node is not refused", lambda: "revoked" in _reason(worker), BOUND, 1)
    note("it gets no grant", True, _reason(worker))
    begin = time.time()
    print(leader.sudo("nodeagent", "approve", code), flush=True)
    checks.until_up(cluster)
    back = time.time() - begin
    print(leader.sudo("nodeagent", "nodes"), flush=True)
    outcome |= checks.perform(cluster, checks.NODE, checks.AGENT, checks.WEB)
    measured = {
        "approved until Ready, seconds": f"{approved:.0f}",
        "approved again after revoke and reset until Ready, seconds": f"{back:.0f}",
    }
    results.write(cluster, "people", {"measured": measured, "checks": outcome})
    return outcome


def _waits(worker: Guest) -> str:
    """The code that a board shows which waits for a person."""
    wait("no board waits for a person", lambda: bool(worker.status.get("approval")), BOUND, 1)
    print(worker.ssh("nodeagent status; echo exit status $?"), flush=True)
    code = str(worker.status["approval"])
    checks.need(re.fullmatch(r"([A-Z2-7]{4}-){3}[A-Z2-7]{4}", code) is not None, code)
    return code


def _shown(leader: Guest, code: str) -> bool:
    return code in [one["id"] for one in leader.status.get("approvals", [])]


def _reason(worker: Guest) -> str:
    error: dict[str, Any] = worker.status.get("error") or {}
    return str(error.get("reason", ""))


def _comes_back(cluster: Cluster, leader: Guest, worker: Guest, name: str) -> tuple[str, bool]:
    """What the API server says to the thrown out node that makes itself anew, with its own
    kubelet's certificate, and whether it is there once its kubelet was started again too."""
    node = f'{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}"}}}}'
    said = worker.ssh(f"sudo kubectl {KUBELET} create -f - 2>&1", stdin=node, check=False)
    worker.sudo("systemctl", "restart", "kubelet")
    deadline = time.monotonic() + QUIET
    there = False
    while time.monotonic() < deadline and not there:
        try:
            there = name in leader.kubectl("get", "nodes", "-o", "name")
        except SshFailed:  # a small API server is away now and then
            continue
        time.sleep(5)
    return said.strip(), there
