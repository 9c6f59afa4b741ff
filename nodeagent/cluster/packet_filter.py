"""What kubelet, kube-proxy and the pod network leave in the packet filter, which `kubeadm reset`
does not take away (kubernetes.io, "kubeadm reset", cleanup of network traffic rules).

Only what is theirs by name is removed, in one transaction a table (iptables-restore(8),
``--noflush``), so that a firewall or Docker beside them loses nothing. The port mapper's chains
(``CNI-``) stay: it takes its own rules away with each pod, and others, such as podman, share them.
"""

from __future__ import annotations

import itertools
import logging
import shlex
from collections.abc import Iterable, Sequence

from nodeagent.cluster import cni
from nodeagent.cluster.cni import NETWORKS
from nodeagent.cluster.cni.network import PodNetwork
from nodeagent.config.settings import POD_NETWORK_FILE
from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

CHAINS = "KUBE-"  # Kubernetes, pkg/kubelet and pkg/proxy/iptables
TOOLS = ("iptables", "ip6tables")
RULES = 16  # at most, that lead to a routing table of a pod network
TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))  # its nftables mode (pkg/proxy/nftables)


def clear(host: Host) -> None:
    """Remove it all; what is not there, tool or rules, is no error. Raises CommandFailed."""
    # What only resembles theirs is left alone where they were not. Both signs go after this.
    told = (host.text(POD_NETWORK_FILE) or "").split()
    here = [
        network
        for network in NETWORKS.values()
        if network.name in told or network.is_configured(host)
    ]
    rules = [text for network in here for text in network.rules]
    for tool in TOOLS:
        saved = host.run(f"{tool}-save", timeout=60)
        undoing = removal(saved.out.splitlines(), rules) if saved.status == 0 else ""
        if undoing:
            LOG.info("removing the cluster's rules with %s-restore", tool)
            host.call(f"{tool}-restore", "--noflush", "--wait", "60", timeout=120, stdin=undoing)
    listed = host.run("nft", "list", "tables")
    there = {tuple(line.split()[1:3]) for line in listed.out.splitlines()}
    tables = itertools.chain(TABLES, *(network.tables for network in NETWORKS.values()))
    for family, name in tables:
        if (family, name) in there:
            host.call("nft", "delete", "table", family, name)
    for network in here:
        _sets(host, network)
        _routes(host, network)


def _sets(host: Host, network: PodNetwork) -> None:
    """Sets of addresses, which no rule names any more. Without ipset, which a network that uses
    them has in its image, they stay until the next boot, and so does one that is in use."""
    if not network.sets:
        return
    begins = (*network.sets, *(f"inet6:{one}" for one in network.sets))
    listed = host.run("ipset", "list", "-name")
    for name in listed.out.split() if listed.status == 0 else ():
        if name.startswith(begins):
            host.run("ipset", "destroy", name)


def _routes(host: Host, network: PodNetwork) -> None:
    """Its routing table with the rules that lead there, and its routes beside others'."""
    for version in ("-4", "-6"):
        if network.route_protocol:
            host.run("ip", version, "route", "flush", "proto", network.route_protocol)
        if not network.routing_table:
            continue
        for _ in range(RULES):  # each takes one away, and fails where there is none
            if host.run("ip", version, "rule", "delete", "table", network.routing_table).status:
                break
        host.run("ip", version, "route", "flush", "table", network.routing_table)


def removal(saved: Iterable[str], of_networks: Sequence[str] = ()) -> str:
    """What iptables-restore shall read to undo the cluster's part of an iptables-save; empty where
    there is none. ``of_networks``: as ``PodNetwork.rules``, of those that are here. Pure."""
    told: list[str] = []
    table = ""
    chains: list[str] = []
    rules: list[str] = []
    for line in saved:
        words = line.split()
        if line.startswith("*"):
            table, chains, rules = line[1:].strip(), [], []
        elif line.startswith(":") and _is_ours(words[0][1:]):
            chains.append(words[0][1:])
        elif words[:1] == ["-A"] and not _is_ours(words[1]) and _is_for_us(line, of_networks):
            rules.append(f"-D{line[2:]}")
        elif line.strip() == "COMMIT" and (chains or rules):
            emptied = [f"-F {chain}" for chain in chains]
            gone = [f"-X {chain}" for chain in chains]
            told += [f"*{table}", *rules, *emptied, *gone, "COMMIT"]
    return "\n".join([*told, ""]) if told else ""


def _is_ours(chain: str) -> bool:
    """True for a chain of Kubernetes or of a pod network, by how its name begins."""
    own = itertools.chain.from_iterable(network.chains for network in NETWORKS.values())
    return chain.startswith((CHAINS, *own))


def _is_for_us(rule: str, of_networks: Sequence[str]) -> bool:
    """True for a rule that jumps to one of those chains (iptables(8), ``-j`` and ``-g``), or that
    a pod network has put beside its chains."""
    try:
        words = shlex.split(rule)  # comments are quoted
    except ValueError:
        return False
    if any(text in rule for text in (cni.OURS, *of_networks)):
        return True
    return any(
        word in ("-j", "-g") and _is_ours(target) for word, target in itertools.pairwise(words)
    )
