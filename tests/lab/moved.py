"""Roles after the fact: the lead moves to the other board, with a power cut in the middle, and then
the worker forgets who it was (``nodeagent reset --identity``)."""

from __future__ import annotations

import functools
import json
import time

from . import checks, results
from .cluster import Cluster
from .guest import Guest, wait
from .place import run_folder, say
from .web import image

CARD = "/boot/firmware/nodeagent.fleet"
BOUND = 300.0  # seconds
IDLE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: idle, image: "@IMAGE@", args: [pause]}]
"""
ADMIN = "/etc/kubernetes/admin.conf"
LEFT = r"sudo iptables-save | grep -cE 'KUBE-|FLANNEL-' || true"


def moved(cluster: Cluster) -> checks.Outcome:
    """Form a cluster; refuse what would lose it; move the lead; reset the worker for good."""
    cluster.power_on()
    checks.until_up(cluster)
    follower, leader = checks.worker(cluster), checks.control_plane(cluster)
    before = _names(leader)
    outcome = {
        "the only control plane is not lost unasked": _said(
            leader, "role --worker --yes", 1, "This is the cluster's only control plane"
        ),
        "there is no second leader": _said(
            follower, "role --control-plane --end-cluster --yes", 1, "leads this fleet"
        ),
        "a worker is a worker already": _said(follower, "role --worker", 0, "already"),
    }
    begin = time.time()
    say("role --worker --end-cluster", leader.name)
    leader.status = {}
    print(leader.ssh("sudo nodeagent role --worker --end-cluster --yes", BOUND), flush=True)
    gone = f"test ! -e {ADMIN} -a ! -e /var/lib/etcd -a ! -e /run/nodeagent/endpoint"
    wait("the leader did not leave", lambda: leader.ssh(gone) == "", BOUND)
    outcome["kubelet, CNI and packet filter are cleared"] = (
        (found := leader.ssh(f"{LEFT}; ls -A /etc/cni/net.d /var/lib/cni 2>&1 || true")).split()[0]
        == "0",
        found,
    )
    ended = time.time() - begin
    say("role --control-plane --end-cluster, and a power cut in its middle", follower.name)
    outcome["without the key it cannot lead"] = _said(
        follower, "role --control-plane --end-cluster --yes", 1, "no key to lead with"
    )
    card = (run_folder() / "fleet" / "nodeagent.fleet").read_text()
    follower.ssh(f"sudo tee {CARD} >/dev/null", stdin=card)
    follower.status = {}
    boots = len(follower.power_ons())
    ask = "sudo nodeagent role --control-plane --end-cluster --yes"
    print(follower.ssh(ask, BOUND), flush=True)
    at_work = functools.partial(follower.holds, "pidof kubeadm")
    wait("kubeadm reset is not at work", at_work, BOUND, 0.2)
    follower.cut_power()
    wait("no power-on", lambda: len(follower.power_ons()) > boots, BOUND, 0.5)
    follower.status = {}
    checks.until_up(cluster, "the fleet did not form anew")
    moved_in = time.time() - begin
    say(f"all Ready {moved_in:.0f} s after the old cluster's end was asked for")
    outcome["the lead has moved"] = (
        checks.control_plane(cluster) is follower, checks.control_plane(cluster).name
    )  # fmt: skip
    after = _names(follower)
    outcome["each board has its name again"] = (after == before, f"{before}, then {after}")
    outcome |= checks.perform(cluster, checks.NODE, {"nothing left to do": checks.nothing_to_do})
    outcome |= _forgets(cluster, leader, follower)
    measured = {
        "role --worker --end-cluster until it has left, seconds": f"{ended:.0f}",
        "until all Ready under the other leader, with a power cut, seconds": f"{moved_in:.0f}",
    }
    results.write(cluster, "rerole", {"measured": measured, "checks": outcome})
    return outcome


def _forgets(cluster: Cluster, worker: Guest, leader: Guest) -> checks.Outcome:
    """reset --identity: its pods go, its node, its keys and its name."""
    name = worker.ssh("hostname").strip()
    manifest = IDLE.replace("@IMAGE@", image(cluster))
    leader.ssh(f"sudo kubectl --kubeconfig={ADMIN} apply -f -", stdin=manifest)
    running = ("get", "pods", "-l", "app=idle", "-o", "jsonpath={.items[0].status.phase}")
    wait("the pod does not run", lambda: leader.kubectl(*running) == "Running", BOUND)
    say("reset --identity", worker.name)
    said = worker.sudo("nodeagent", "reset", "--identity", "--yes", timeout=900)
    print(said, flush=True)
    nodes = _names(leader)
    state = worker.ssh(
        "systemctl is-enabled nodeagent; hostname; cat /etc/hostname;"
        " sudo ls /var/lib/nodeagent/trust /var/lib/nodeagent; " + LEFT,
        check=False,
    ).split()
    return {
        "its pods were moved away": ("pods moved away" in said and "0 pods" not in said, "1 pod"),
        "its node is gone": (name not in nodes and "kubectl delete" not in said, str(nodes)),
        "its keys and its name are gone, and the agent is off": (
            state[0] == "disabled" and name not in state
            and not {"node.key", "fleet.json"} & set(state),
            " ".join(state),
        ),
    }  # fmt: skip


def _names(leader: Guest) -> list[str]:
    found = json.loads(leader.kubectl("get", "nodes", "-o", "json"))["items"]
    return sorted(str(node["metadata"]["name"]) for node in found)


def _said(guest: Guest, words: str, status: int, sentence: str) -> tuple[bool, str]:
    """What a command of the product answers a person."""
    said = guest.ssh(f'sudo nodeagent {words} 2>&1; echo "status $?"', BOUND, check=False)
    print(f"{guest.name}$ sudo nodeagent {words}\n{said}", flush=True)
    return sentence in said and f"status {status}" in said, said
