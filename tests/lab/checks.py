"""What must hold on a cluster that says it is Ready. Each check gives what it saw, or raises.

The order is the order of a node's life. ``CHECKS`` is what the run prints and what decides its
exit status.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nodeagent.cluster import cni
from nodeagent.cluster.acceptance import NAMESPACE

from .cluster import Cluster
from .guest import Guest, SshFailed, wait
from .place import LabError
from .watch import TOKEN, has_digit
from .web import image, service_answers

PACKAGES = ("kubeadm", "kubectl", "kubelet")
MODULES = ("overlay", "br_netfilter")  # and those of the pod network
SYSCTLS = (
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv4.ip_forward",
)
WORKER_MEMORY = 45.0  # MB, resident, all processes of the agent on a joined worker
# What the device trees call their boards.
MODELS = {"raspi3b": "Raspberry Pi 3 Model B", "zero2w": "Raspberry Pi Zero 2 W"}
STATUS_RATIO = 2.0  # `nodeagent status` against `python3 -c "import click"`


class CheckFailed(Exception):
    """What was seen instead."""


def need(holds: bool, seen: str) -> None:
    if not holds:
        raise CheckFailed(seen)


def nodes(cluster: Cluster) -> list[dict[str, Any]]:
    """The cluster's nodes as its API has them."""
    data = json.loads(control_plane(cluster).kubectl("get", "nodes", "-o", "json"))
    found: list[dict[str, Any]] = data["items"]
    return found


def control_planes(cluster: Cluster) -> list[Guest]:
    """Guests with an API server of their own."""
    test = "test -e /etc/kubernetes/manifests/kube-apiserver.yaml"
    return [guest for guest in cluster.guests if guest.holds(test)]


def control_plane(cluster: Cluster) -> Guest:
    found = control_planes(cluster)
    need(len(found) == 1, f"{len(found)} control planes")
    return found[0]


def worker(cluster: Cluster) -> Guest:
    """A worker; the control plane itself where it is alone."""
    leader = control_plane(cluster)
    return next((guest for guest in cluster.guests if guest is not leader), leader)


def one_reboot(cluster: Cluster) -> str:
    for guest in cluster.guests:
        boots = guest.power_ons()
        need(len(boots) == 2, f"{guest.name} was powered on {len(boots)} times")
        need("cgroup_disable=memory" in boots[0]["arguments"], f"{guest.name} had it at first")
        kinds = [event["event"] for event in guest.events()]
        need(kinds.count("reboot") == 1 and "cut" not in kinds, f"{guest.name}: {kinds}")
    return "missing at first boot, one reboot"


def no_reboot(cluster: Cluster) -> str:
    for guest in cluster.guests:
        boots = guest.power_ons()
        need(len(boots) == 1, f"{guest.name} was powered on {len(boots)} times")
        need("cgroup_disable=memory" not in boots[0]["arguments"], f"{guest.name} lacked it")
    need(cluster.tried == 0, f"{cluster.tried} packets of baked boards for an archive")
    return "there at first boot, no reboot; baked boards asked no archive"


def memory_cgroup(cluster: Cluster) -> str:
    for guest in cluster.guests:
        controllers = guest.ssh("cat /sys/fs/cgroup/cgroup.controllers").split()
        need("memory" in controllers, f"{guest.name}: {' '.join(controllers)}")
    return "in cgroup.controllers"


def swap_off(cluster: Cluster) -> str:
    for guest in cluster.guests:
        swaps = guest.ssh("cat /proc/swaps").splitlines()[1:]
        need(not swaps, f"{guest.name}: {swaps}")
    return "/proc/swaps is empty"


def modules(cluster: Cluster) -> str:
    # Of a network by its manifest nobody knows them: they come when it starts.
    network = cni.NETWORKS["none" if cluster.brought else cluster.asked.cni]
    wanted = (*MODULES, *network.modules)
    for guest in cluster.guests:
        there = guest.ssh("ls /sys/module").split()
        missing = [name for name in wanted if name not in there]
        need(not missing, f"{guest.name} lacks {', '.join(missing)}")
    return ", ".join(wanted)


def sysctls(cluster: Cluster) -> str:
    paths = " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in SYSCTLS)
    for guest in cluster.guests:
        values = guest.ssh(f"cat {paths}").split()
        need(values == ["1"] * len(SYSCTLS), f"{guest.name}: {values}")
    return "three at 1"


def packages(cluster: Cluster) -> str:
    for guest in cluster.guests:
        held = guest.ssh("apt-mark showhold").split()
        need(set(PACKAGES) <= set(held), f"{guest.name} holds {held}")
        broken = guest.ssh("dpkg --audit")
        need(not broken.strip(), f"{guest.name}: {broken[:200]}")
        active = guest.ssh("systemctl is-active containerd kubelet", check=False).split()
        need(active == ["active", "active"], f"{guest.name}: containerd, kubelet {active}")
    return cluster.guests[0].ssh("kubelet --version; containerd --version").replace("\n", "; ")


def leader(cluster: Cluster) -> str:
    return f"{control_plane(cluster).name} alone"


def all_ready(cluster: Cluster) -> str:
    found = nodes(cluster)
    ready = [
        node["metadata"]["name"]
        for node in found
        if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
    ]
    need(len(ready) == len(found) == cluster.asked.nodes, f"{ready} of {len(found)}")
    return ", ".join(sorted(ready))


def until_ready(cluster: Cluster) -> None:
    """Wait until Kubernetes calls all nodes Ready; a small API server is away now and then.
    Raises LabError."""

    def ready() -> bool:
        try:
            return bool(all_ready(cluster))
        except CheckFailed:
            return False

    wait("Kubernetes does not call all nodes Ready", ready, cluster.asked.settling, 5)


def until_up(cluster: Cluster, otherwise: str = "the nodes did not become Ready") -> None:
    """Wait until every agent says ready, then until Kubernetes does. Raises LabError."""
    wait(otherwise, lambda: cluster.ready, cluster.asked.minutes * 60, 1)
    until_ready(cluster)


def user_kubeconfig(cluster: Cluster) -> str:
    guest = control_plane(cluster)
    seen = guest.ssh("stat -c '%U %a' ~/.kube/config").strip()
    need(seen == "pi 600", seen)
    guest.ssh("kubectl get nodes", timeout=120)
    return "owner pi, mode 600, and it works"


def no_token(cluster: Cluster) -> str:
    sampled = 0
    for guest in cluster.guests:
        need(not guest.leaks, f"{guest.name}, in a command line: {guest.leaks[:1]}")
        sampled += guest.samples
        found = guest.ssh(f"sudo journalctl -a --no-pager | grep -aoE '{TOKEN}' || true", 300)
        real = [line for line in found.splitlines() if has_digit(line)]
        need(not real, f"{guest.name}, in the journal: {real[:2]}")
    need(sampled > 0, "no command line was ever looked at")
    return f"{sampled} looks at all command lines, and the journals"


def agent_memory(cluster: Cluster) -> str:
    """Both processes of a worker. A page that both have in memory is there once, so the sum is of
    proportional shares (kernel docs, filesystems/proc, Pss); plain Rss counts it twice."""
    guest = worker(cluster)
    pids = guest.ssh("systemctl show -p ControlGroup --value 'nodeagent*.service'").split()
    files = " ".join(f"/sys/fs/cgroup{group}/cgroup.procs" for group in pids)
    rows = guest.ssh(
        f"for p in $(cat {files}); do sudo grep -hE '^(Pss|Rss):' /proc/$p/smaps_rollup; done"
        " || true"
    ).splitlines()
    pss, rss = (
        sum(int(row.split()[1]) for row in rows if row.startswith(kind)) / 1024
        for kind in ("Pss", "Rss")
    )
    found = f"{pss:.0f} MB (Rss {rss:.0f} MB) on {guest.name}"
    need(0 < pss <= WORKER_MEMORY, found)
    return f"{found}, at most {WORKER_MEMORY:.0f}"


def status_speed(cluster: Cluster) -> str:
    script = """import subprocess, time
def best(*argv):
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return min(times)
print(best('nodeagent', 'status') / best('/usr/bin/python3', '-c', 'import click'))
"""
    guest = worker(cluster)
    # Other work on the two processors falls on either command; the best of three rounds counts.
    ratio = min(float(guest.ssh("python3 -", 120, stdin=script)) for _ in range(3))
    need(ratio <= STATUS_RATIO, f"{ratio:.2f} times python3 -c 'import click'")
    return f"{ratio:.2f} times python3 -c 'import click', at most {STATUS_RATIO:g}"


def nothing_to_do(cluster: Cluster) -> str:
    for guest in cluster.guests:
        guest.sudo("nodeagent", "plan")
    return "nodeagent plan exits 0 on every node"


def verified(cluster: Cluster) -> str:
    """The product's own test of a cluster, as its user runs it: again once the cluster answers,
    where it says so."""
    command = ("nodeagent", "verify", "--image", image(cluster))
    until_ready(cluster)
    try:
        again, said = "", control_plane(cluster).sudo(*command, timeout=2400)
    except SshFailed as error:
        if "(E101)" not in str(error):
            raise
        until_ready(cluster)
        again = f", the second time; the first: {error}"
        said = control_plane(cluster).sudo(*command, timeout=2400)
    print(said, end="", flush=True)
    # A busy board may take longer over the removal than the command waits, and it says so; what
    # counts is that nothing stays.
    left = f"note: the namespace {NAMESPACE} is still being removed"
    parts = said.splitlines()
    need("note:" not in said.replace(left, "") and "The cluster works." in parts, said)
    look = ("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")
    gone = lambda: not control_plane(cluster).kubectl(*look)  # noqa: E731
    wait(f"the namespace {NAMESPACE} stays", gone, cluster.asked.settling, 5)
    return f"nodeagent verify: {len(said.splitlines())} parts are well{again}"


def pi_board(cluster: Cluster) -> str:
    """What the agent knows of a board with a Pi's own device tree, and of the card in it."""
    seen = ""
    for guest in cluster.pis:
        report = json.loads(guest.sudo("nodeagent", "doctor", "--json", check=False))
        said = {one["name"]: f"{one['level']} {one['value']}" for one in report["findings"]}
        card = guest.ssh("findmnt --noheadings --output SOURCE /").strip()
        led = guest.ssh("cat /sys/class/leds/ACT/trigger || true").strip() or "none"
        seen = f"{said['model']}; {said['memory']}; root {card}, {said['root-disk']}; LED {led}"
        need(said["model"] == f"pass {MODELS[guest.board.machine]}", seen)
        need(card.startswith("/dev/mmcblk") and said["root-disk"].startswith("pass"), seen)
        need("[" in led or guest.board.machine != "zero2w", seen)
    return seen


Check = Callable[[Cluster], str]
FIRST_BOOT: dict[str, Check] = {"one reboot for the memory cgroup": one_reboot}
# Of cards that `image seed` prepared.
PREPARED: dict[str, Check] = {"first boot of prepared cards": no_reboot}
PI: dict[str, Check] = {"the agent knows the Pi it is on": pi_board}
NODE: dict[str, Check] = {
    "memory cgroup on": memory_cgroup,
    "swap off": swap_off,
    "kernel modules": modules,
    "sysctls": sysctls,
    "packages installed, held, running": packages,
    "one control plane": leader,
    "all nodes Ready": all_ready,
}
AGENT: dict[str, Check] = {
    "kubeconfig of the first user": user_kubeconfig,
    "no token seen": no_token,
    "nothing left to do": nothing_to_do,
}
# Measured and shown against the design's budgets; a miss does not fail the run.
BUDGETS: dict[str, Check] = {
    "resident memory of the agent": agent_memory,
    "nodeagent status is quick": status_speed,
}
WEB: dict[str, Check] = {
    "web Deployment answers": lambda cluster: service_answers(
        cluster, control_plane(cluster), worker(cluster)
    )
}
VERIFIED: dict[str, Check] = {"nodeagent verify is content": verified}


Outcome = dict[str, tuple[bool, str]]


def show(outcome: Outcome, miss: str = "FAIL") -> None:
    """Print what checks saw."""
    for check, (passed, seen) in outcome.items():
        print(f"  {'pass' if passed else miss}  {check}: {seen.strip()}", flush=True)


def note(outcome: Outcome, check: str, passed: bool, seen: str, miss: str = "FAIL") -> None:
    """Keep what a check saw, and print it."""
    outcome[check] = (passed, seen)
    show({check: (passed, seen)}, miss)


def perform(cluster: Cluster, *groups: dict[str, Check], miss: str = "FAIL") -> Outcome:
    """Run checks; each prints one line. What is waited for in vain is recorded as any other."""
    results: Outcome = {}
    for name, check in (item for group in groups for item in group.items()):
        try:
            note(results, name, True, check(cluster))
        except (CheckFailed, LabError, SshFailed, ValueError, KeyError) as why:
            note(results, name, False, str(why) or type(why).__name__, miss)
    return results
