"""The ports of a node, who uses them, and from where. A helper, not a step.

Sources: Kubernetes docs, "Ports and Protocols"; RFC 6762 for mDNS; the agent's own from ``paths``
and ``serve/status_page``; the pod network's from ``cni``. NodePorts are not among them: kube-proxy
forwards those to pods, so that they never come to a socket of the node.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent import paths
from nodeagent.cluster import cni
from nodeagent.config.settings import Settings


@dataclass(frozen=True)
class Port:
    """``lan``: other machines must reach it. ``exclusive``: nobody else may hold it before the
    cluster is formed. ``leads``: only on a control plane."""

    protocol: str
    number: int
    what: str
    lan: bool = False
    exclusive: bool = True
    leads: bool = False


STATUS_PAGE = Port("tcp", paths.PAGE_PORT, "the status page", lan=True, exclusive=False)
PORTS = (
    Port("udp", 5353, "mDNS", lan=True, exclusive=False),  # shared with avahi (RFC 6762, 15.1)
    Port("tcp", 10250, "the kubelet", lan=True),
    Port("tcp", 10248, "the kubelet's health check"),
    Port("tcp", 10249, "kube-proxy's metrics"),
    Port("tcp", 10256, "kube-proxy's health check"),
    STATUS_PAGE,
    Port("tcp", paths.API_PORT, "the API server", lan=True, leads=True),
    Port("tcp", paths.ENDPOINT_PORT, "nodeagent's endpoint for joins", lan=True, leads=True),
    # One control plane: its etcd has no other members, and only the API server here asks it.
    Port("tcp", 2379, "etcd", leads=True),
    Port("tcp", 2380, "etcd's peers", leads=True),
    Port("tcp", 10257, "the controller manager", leads=True),
    Port("tcp", 10259, "the scheduler", leads=True),
)


def known(settings: Settings) -> tuple[Port, ...]:
    """All ports of a cluster with these settings, those of its pod network included."""
    network = cni.chosen(settings)
    more = []
    for port in (*network.ports, *network.own_ports):
        number, protocol = port.split("/")
        lan = port in network.ports
        more.append(Port(protocol, int(number), "the pod network", lan=lan))
    return (*PORTS, *more)


def needed(settings: Settings) -> tuple[Port, ...]:
    """The ports of a node with these settings. One that may still be elected needs them all."""
    return tuple(
        port
        for port in known(settings)
        if not (port.leads and settings.role == "worker")
        and not (port == STATUS_PAGE and settings.status_page == "off")
    )


def reachable(settings: Settings, protocol: str) -> tuple[int, ...]:
    """The numbers of the ports that others must reach, sorted."""
    return tuple(sorted(p.number for p in needed(settings) if p.lan and p.protocol == protocol))
