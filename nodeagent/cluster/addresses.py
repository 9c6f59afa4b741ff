"""IPv4 or IPv6: the cluster's networks, and addresses as URLs and kubeadm write them.

One cluster speaks one version. Its nodes', pods' and Services' networks must be of the same
(Kubernetes docs, "IPv4/IPv6 dual-stack": kubeadm and the API server refuse a mix).
"""

from __future__ import annotations

from dataclasses import replace

from nodeagent import paths
from nodeagent.config.settings import Network, Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts

# Where the node has IPv6 only and nobody chose networks. Unique local (RFC 4193), used inside the
# cluster only; a /56 has a /64 for each of 256 nodes, and the API server takes no Service network
# larger than /108 (kube-apiserver, --service-cluster-ip-range).
POD_CIDR6, SERVICE_CIDR6 = "fd00:10:244::/56", "fd00:10:96::/112"
# What the agent chooses from, by IP version, where nobody typed a value: the defaults first, then
# ones that homes, Docker (172.17 to 172.20) and guides seldom use.
PODS = {
    4: (Network.pod_cidr, "10.118.0.0/16", "172.27.0.0/16", "192.168.128.0/18"),
    6: (POD_CIDR6, "fd00:10:118::/56"),
}
SERVICES = {
    4: (Network.service_cidr, "10.119.0.0/16", "172.26.0.0/16", "192.168.192.0/18"),
    6: (SERVICE_CIDR6, "fd00:10:119::/112"),
}


def version(address: str) -> int:
    """4 or 6, of an address, network or endpoint."""
    return 6 if address.count(":") > 1 else 4


def fitted(settings: Settings, address: str) -> Settings:
    """The settings with networks of the version of this node's address.

    Raises Blocked where somebody chose networks of another one.
    """
    network = settings.network
    if version(address) == network.version:
        return settings
    if network.pod_cidr not in PODS[4] or network.service_cidr not in SERVICES[4]:
        raise Blocked(
            f"The cluster's networks are IPv{network.version}, and this node has only IPv"
            f"{version(address)} ({address}).",
            f"Give the LAN IPv{network.version}, or take `pod_cidr` and `service_cidr` out of the"
            " settings.",
        )
    fit = replace(network, pod_cidr=POD_CIDR6, service_cidr=SERVICE_CIDR6)
    return replace(settings, network=fit)


def endpoint(address: str, port: int = paths.API_PORT) -> str:
    """``10.0.0.1:6443`` or ``[fd00::1]:6443`` (RFC 3986 3.2.2)."""
    return f"[{address}]:{port}" if version(address) == 6 else f"{address}:{port}"


def host_of(endpoint: str) -> str:
    """The address in an endpoint."""
    return endpoint.rpartition(":")[0].removeprefix("[").removesuffix("]")


def own_address(facts: Facts, settings: Settings, endpoint: str) -> str:
    """This node's address of the version that the cluster at ``endpoint`` speaks.

    Raises Blocked where it has none: its pods could reach nobody.
    """
    wanted = version(endpoint)
    address = facts.address(settings.network.interface, wanted)
    if address is None or version(address) != wanted:
        raise Blocked(
            f"The cluster speaks IPv{wanted}, and this node has no IPv{wanted} address"
            + (f", only {address}." if address else "."),
            f"Check that the router gives IPv{wanted} addresses here too.",
        )
    return address
