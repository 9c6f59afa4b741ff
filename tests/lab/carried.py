"""All boards of a formed cluster are turned off by `nodeagent fleet off`, carried to a network with
other addresses, and turned on again in a drawn order; before that the same boards are turned off
and on where they are. The same with plain kubeadm.

After another scenario it goes on with that one's cluster.
"""

from __future__ import annotations

import ipaddress
import json
import random
import time
from collections.abc import Sequence
from functools import partial

from nodeagent.config.settings import Network

from . import checks, lan, results, traced
from .cluster import Cluster
from .guest import Guest, SshFailed, wait
from .place import ADDRESS, REPOSITORY, LabError, say
from .script import Baseline

ELSEWHERE = "192.168.9.1"  # the router of the other house
APART = 20.0  # seconds between two boards' power, at most
OFF_BOUND = 500.0  # seconds; the command waits for five minutes at most
PLAIN_BOUND = 900.0  # seconds that a cluster of plain kubeadm is given
SETTLED = 180.0  # seconds for what the agents still have to do once all is Ready


def carried(cluster: Cluster) -> checks.Outcome:
    """Form a cluster where there is none; off and on; off, carried, and on."""
    if not cluster.formed:
        cluster.power_on()
    checks.until_up(cluster)
    if not cluster.formed:
        checks.perform(cluster, checks.WEB)  # there is no registry in the other network
    cluster.formed = True
    before, uid = _addresses(cluster), uid_of(cluster)
    order = random.sample(cluster.guests, len(cluster.guests))
    pauses = [random.uniform(0, APART) for _ in order]
    say(f"in this order: {', '.join(guest.name for guest in order)}")
    leader = checks.control_plane(cluster)
    tracing = len(cluster.guests) == 2 and cluster.asked.cni == Network.cni
    if tracing:  # through both starts, whose times are compared
        traced.start(leader)
    _off(cluster)
    still = _on(cluster, order, pauses)
    say(f"where they are: all Ready {still:.0f} s after the first power-on")
    _off(cluster)
    lan.carry(ELSEWHERE, cluster.asked.mirror)
    elsewhere = _on(cluster, order, pauses)
    say(f"in the other network: all Ready {elsewhere:.0f} s after the first power-on")

    def there(cluster: Cluster) -> str:
        after = _addresses(cluster)
        network = ipaddress.ip_network(f"{ELSEWHERE}/{lan.PREFIX}", strict=False)
        checks.need(after.keys() == before.keys(), f"{sorted(before)} became {sorted(after)}")
        strange = [one for one in after.values() if ipaddress.ip_address(one) not in network]
        checks.need(not strange, f"still at {', '.join(strange)}")
        return ", ".join(f"{name} {before[name]} -> {after[name]}" for name in sorted(after))

    def same(cluster: Cluster) -> str:
        found = uid_of(cluster)
        checks.need(found == uid, f"kube-system has the uid {found}, and had {uid}")
        return f"kube-system has the uid {uid} as before"

    def told(cluster: Cluster) -> str:
        for guest in cluster.guests:
            events = guest.ssh("sudo nodeagent events")
            checks.need("address changed from" in events, f"{guest.name}: {events[-300:]}")
        return "`nodeagent events` says on each that its address changed"

    def recorded(cluster: Cluster) -> str:
        names = {"leader" if guest is leader else "worker": guest for guest in cluster.guests}
        after = _addresses(cluster)
        words: dict[str, str] = {}
        for name, guest in names.items():
            node = guest.ssh("cat /proc/sys/kernel/hostname").strip()
            words |= {node: name, before[node]: f"{name}-before", after[node]: f"{name}-after"}
        return traced.finish(cluster, leader, names, words)

    outcome = checks.perform(
        cluster,
        {"what the kubelets tell is recorded": recorded} if tracing else {},
        {"all nodes at the other network's addresses": there, "the same cluster": same},
        {"each step is told": told, "nothing of before is left": _nothing_left},
        checks.NODE,
        checks.AGENT,
        checks.WEB,
    )
    measured = {
        "power-on to all Ready where they are, seconds": f"{still:.0f}",
        "power-on to all Ready in another network, seconds": f"{elsewhere:.0f}",
        "the second against the first": f"{elsewhere / still:.2f}",
    }
    results.write(cluster, "carried", {"measured": measured, "checks": outcome})
    return outcome


def carried_plain(cluster: Cluster) -> checks.Outcome:
    """The same with a cluster of plain kubeadm, made by a script: what becomes of it, and no
    more, since nobody promised anything."""
    cluster.power_on(agent=False)
    Baseline(cluster, REPOSITORY / "tests" / "lab" / "baseline.sh").run()
    order = random.sample(cluster.guests, len(cluster.guests))
    pauses = [random.uniform(0, APART) for _ in order]
    _shut_down(cluster)
    still = _plain_on(cluster, order, pauses)
    _shut_down(cluster)
    lan.carry(ELSEWHERE, cluster.asked.mirror)
    elsewhere = _plain_on(cluster, order, pauses)
    leader = cluster.guests[0]
    last = leader.ssh("sudo kubectl --kubeconfig=/etc/kubernetes/admin.conf get nodes 2>&1 || true")
    say(f"there: {elsewhere}; kubectl says: {last.strip()}")
    measured = {
        "power-on to all Ready where they are, seconds": still,
        f"in another network, seconds, looked at for {PLAIN_BOUND:.0f}": elsewhere,
        "what `kubectl get nodes` says there at last": " / ".join(last.split("\n"))[-300:],
    }
    results.write(cluster, "carried-plain", {"measured": measured, "checks": {}})
    return {}


def _shut_down(cluster: Cluster) -> None:
    """Workers first."""
    for guest in reversed(cluster.guests):
        guest.ssh("sudo systemd-run --on-active=1 systemctl poweroff", check=False)
        is_off = partial(_is_off, guest)
        wait(f"{guest.name} is not off", is_off, OFF_BOUND)


def _is_off(guest: Guest) -> bool:
    return guest.last_event == "off"


def _plain_on(cluster: Cluster, order: Sequence[Guest], pauses: Sequence[float]) -> str:
    """Seconds until every node is Ready by what its kubelet has told since."""
    begin = time.time()
    for guest, pause in zip(order, pauses, strict=True):
        guest.power_on()
        time.sleep(pause)
    while time.time() - begin < PLAIN_BOUND:
        try:
            boots = {guest.ssh("cat /proc/sys/kernel/random/boot_id").strip() for guest in order}
            told = {node["status"]["nodeInfo"]["bootID"] for node in checks.nodes(cluster)}
            if told == boots and checks.all_ready(cluster):
                return f"{time.time() - begin:.0f}"
        except (SshFailed, checks.CheckFailed, LabError):
            pass
        time.sleep(5)
    return "never"


def _off(cluster: Cluster) -> None:
    """As a person does it: workers first, the control plane last."""
    leader = checks.control_plane(cluster)
    said = leader.ssh("sudo nodeagent fleet off --yes 2>&1", check=False, timeout=OFF_BOUND)
    say(f"nodeagent fleet off: {'; '.join(said.splitlines())}")
    workers = [guest for guest in cluster.guests if guest is not leader]
    checks.need(all(guest.last_event == "off" for guest in workers), "a worker is not off")
    off = lambda: leader.last_event == "off"  # noqa: E731
    wait("the control plane did not turn itself off", off, OFF_BOUND)


def _on(cluster: Cluster, order: Sequence[Guest], pauses: Sequence[float]) -> float:
    """Seconds from the first power-on until agents and Kubernetes call all nodes Ready."""
    for guest in order:
        guest.status = {}
    begin = time.time()
    for guest, pause in zip(order, pauses, strict=True):
        guest.power_on()
        time.sleep(pause)
    checks.until_up(cluster, "the nodes did not become Ready again")
    return time.time() - begin


def _addresses(cluster: Cluster) -> dict[str, str]:
    return {
        node["metadata"]["name"]: next(
            one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"
        )
        for node in checks.nodes(cluster)
    }


def uid_of(cluster: Cluster) -> str:
    """Of kube-system, which lives as long as the cluster."""
    leader = checks.control_plane(cluster)
    told = json.loads(leader.kubectl("get", "namespace", "kube-system", "-o", "json"))
    return str(told["metadata"]["uid"])


def _nothing_left(cluster: Cluster) -> str:
    """No file of the cluster's has an address of the network of before; certificates apart."""
    old = ADDRESS.rpartition(".")[0].replace(".", r"\.")
    files = (
        "/etc/hosts /etc/kubernetes /var/lib/kubelet/kubeadm-flags.env /var/lib/nodeagent/kubeadm"
    )

    def clean() -> bool:
        return not any(_lines(guest, old, files) for guest in cluster.guests)

    def tunnelled() -> bool:
        """Made by the network's pod, which starts when the node is Ready."""
        look = "ip -d link show flannel.1 2>/dev/null | grep -o 'local [0-9.]*' || true"
        found = [guest.ssh(look).strip() for guest in cluster.guests]
        return all(found) and not any(ADDRESS.rpartition(".")[0] in one for one in found)

    wait("a file still has an address of before", clean, SETTLED, 5)
    wait("a tunnel is missing or has an address of before", tunnelled, SETTLED, 5)
    return f"no file below {files.split()[1]}, no tunnel"


def _lines(guest: Guest, old: str, files: str) -> str:
    return guest.ssh(f"sudo grep -rIsE '{old}\\.[0-9]' {files} || true").strip()
