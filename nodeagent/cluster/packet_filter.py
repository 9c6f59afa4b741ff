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
from collections.abc import Iterable

from nodeagent.cluster.cni import NETWORKS
from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

CHAINS = "KUBE-"  # Kubernetes, pkg/kubelet and pkg/proxy/iptables
TOOLS = ("iptables", "ip6tables")
TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))  # its nftables mode (pkg/proxy/nftables)


def clear(host: Host) -> None:
    """Remove it all; what is not there, tool or rules, is no error. Raises CommandFailed."""
    for tool in TOOLS:
        saved = host.run(f"{tool}-save", timeout=60)
        undoing = removal(saved.out.splitlines()) if saved.status == 0 else ""
        if undoing:
            LOG.info("removing the cluster's rules with %s-restore", tool)
            host.call(f"{tool}-restore", "--noflush", "--wait", "60", timeout=120, stdin=undoing)
    listed = host.run("nft", "list", "tables")
    there = {tuple(line.split()[1:3]) for line in listed.out.splitlines()}
    tables = itertools.chain(TABLES, *(network.tables for network in NETWORKS.values()))
    for family, name in tables:
        if (family, name) in there:
            host.call("nft", "delete", "table", family, name)


def removal(saved: Iterable[str]) -> str:
    """What iptables-restore shall read to undo the cluster's part of an iptables-save; empty where
    there is none. Pure."""
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
        elif words[:1] == ["-A"] and not _is_ours(words[1]) and _leads_there(line):
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


def _leads_there(rule: str) -> bool:
    """True for a rule that jumps to one of those chains (iptables(8), ``-j`` and ``-g``)."""
    try:
        words = shlex.split(rule)  # comments are quoted
    except ValueError:
        return False
    return any(
        word in ("-j", "-g") and _is_ours(target) for word, target in itertools.pairwise(words)
    )
