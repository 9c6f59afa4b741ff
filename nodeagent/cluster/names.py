"""Names in place of addresses: how a cluster's parts find each other after a change of network.

A cluster is reached as ``api.<fleet id>.internal``, and a control plane's etcd as
``<node id>.<fleet id>.internal`` (.internal is for private use: ICANN resolution 2024.07.29.06). No
server answers for them: each node has them in /etc/hosts (hosts(5)), between two lines of ours, and
only with addresses that somebody has proved (``agent/follow.py``). What else holds an address
of this node is here too, each with what it says now; ``steps/own_address.py`` keeps it right.

Clusters of nodeagent 0.2.0 have an address where later ones have the name; they stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nodeagent import paths
from nodeagent.host.host import Host

MOVED = "another address"  # the event in the state file's history
BEGIN = "# nodeagent: the names of this node's cluster; written again where they differ."
END = "# nodeagent: end of names."
API_NAME = re.compile(r"api\.f-[a-z2-7]{16}\.internal")
MANIFESTS = f"{paths.KUBERNETES}/manifests"
API_SERVER, ETCD = f"{MANIFESTS}/kube-apiserver.yaml", f"{MANIFESTS}/etcd.yaml"
# kubeadm gives these the address, also where the endpoint is a name (KEP-4471).
KUBECONFIGS = tuple(f"{paths.KUBERNETES}/{name}.conf"
                    for name in ("kubelet", "controller-manager", "scheduler"))  # fmt: skip
_SERVER = re.compile(r"^( *server: https://)(\S+)$", re.MULTILINE)
_NODE_IP = re.compile(r"(--node-ip=)([^\s\"]+)")
_ADVERTISED = re.compile(r"(--advertise-address=)(\S+)")
_PEER = re.compile(r"--initial-advertise-peer-urls=https://([a-z0-9.-]+):")
# What kubeadm writes for its own later use (cmd/kubeadm/app/constants, ...AnnotationKey).
_ANNOTATED = re.compile(
    r"(advertise-address\.endpoint: |advertise-client-urls: https://)(\S+)(:\d+)$", re.MULTILINE
)


class Line(NamedTuple):
    """One line of /etc/hosts."""

    address: str
    name: str


class Names(NamedTuple):
    """Of the cluster's API servers, and of this node."""

    api: str
    node: str


def of(fleet_id: str, node_id: str) -> Names:
    """The names of a node that leads, and of its cluster."""
    return Names(api(fleet_id), f"{node_id}.{fleet_id}.internal")


def api(fleet_id: str) -> str:
    """The name under which the API servers of a fleet's cluster are reached."""
    return f"api.{fleet_id}.internal"


def loopback(address: str) -> str:
    """Of the same IP version as ``address``."""
    return "::1" if ":" in address else "127.0.0.1"


def of_control_plane(own: Names, address: str) -> tuple[Line, ...]:
    """What a control plane has in /etc/hosts. Its own parts reach the API server by loopback, so
    they lose nothing when the address changes."""
    return Line(loopback(address), own.api), Line(address, own.node)


def of_worker(api_name: str, addresses: Iterable[str]) -> tuple[Line, ...]:
    """What a worker has: a line for each control plane. Go's dialer, which the kubelet and
    kube-proxy use, takes the next where one does not answer (net.Dialer)."""
    return tuple(Line(address, api_name) for address in addresses)


def with_lines(hosts: str, lines: Sequence[Line]) -> str:
    """/etc/hosts with exactly these names of ours; everything else in it stays. No lines: without
    ours."""
    before, _, rest = hosts.partition(f"{BEGIN}\n")
    inside, found, after = rest.partition(f"{END}\n")
    if rest and not found:  # cut short: what is no line of ours is somebody else's
        after = "".join(line for line in inside.splitlines(True) if ".internal" not in line)
    if not lines:
        return before + after
    if before and not before.endswith("\n"):
        before += "\n"
    block = "".join(f"{line.address}\t{line.name}\n" for line in lines)
    return f"{before}{BEGIN}\n{block}{END}\n{after}"


def tell(host: Host, lines: Sequence[Line]) -> None:
    """Have exactly these names of ours in /etc/hosts. Raises OSError."""
    hosts = host.text(paths.HOSTS) or ""
    if with_lines(hosts, lines) != hosts:
        host.write(paths.HOSTS, with_lines(hosts, lines).encode())


def addresses_of(hosts: str, name: str) -> tuple[str, ...]:
    """The addresses that a text like /etc/hosts gives a name, in their order."""
    lines = (line.split("#")[0].split() for line in hosts.splitlines())
    return tuple(words[0] for words in lines if name in words[1:])


def server(kubeconfig: str) -> str:
    """The host in a kubeconfig's ``server``: a name, or an address; empty where there is none."""
    found = _SERVER.search(kubeconfig)
    return found[2].rpartition(":")[0].strip("[]") if found else ""


def with_server(kubeconfig: str, name: str) -> str:
    """The same kubeconfig with another server."""
    return _SERVER.sub(rf"\g<1>{name}:{paths.API_PORT}", kubeconfig)


def node_ip(flags: str) -> str:
    """The address that the kubelet is told to have, in kubeadm-flags.env or its command line."""
    found = _NODE_IP.search(flags)
    return found[2] if found else ""


def with_node_ip(flags: str, address: str) -> str:
    """The same flags with another address."""
    return _NODE_IP.sub(rf"\g<1>{address}", flags)


def advertised(manifest: str) -> str:
    """The address that the API server's manifest names; empty where it names none."""
    found = _ADVERTISED.search(manifest)
    return found[2] if found else ""


def with_address(manifest: str, address: str) -> str:
    """A static pod's manifest of kubeadm's with another address of the node's."""
    host = f"[{address}]" if ":" in address else address
    manifest = _ADVERTISED.sub(rf"\g<1>{address}", manifest)
    return _ANNOTATED.sub(rf"\g<1>{host}\g<3>", manifest)


def peer(etcd_manifest: str) -> str:
    """The name under which etcd's peers know this member; an address where it has no name."""
    found = _PEER.search(etcd_manifest)
    return found[1] if found else ""
