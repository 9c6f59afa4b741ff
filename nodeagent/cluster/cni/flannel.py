"""flannel with VXLAN, from our own manifest (flannel docs, "Kubernetes")."""

from __future__ import annotations

import json

from nodeagent.cluster.cni.network import PodNetwork, filled
from nodeagent.config.settings import Settings

# The pair that flannel's Documentation/kube-flannel.yml of that release names.
VERSION = "v0.28.9"
CNI_PLUGIN_VERSION = "v1.9.1-flannel3"


def network(settings: Settings) -> dict[str, object]:
    """The part of net-conf.json that says which network, of which IP version (flannel docs,
    "Configuration": IPv6 alone wants IPv4 off)."""
    if settings.network.version == 4:
        return {"Network": settings.network.pod_cidr}
    return {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": settings.network.pod_cidr}


def manifest(settings: Settings) -> str:
    """The manifest with images and pod network filled in."""
    flannel, plugin = NETWORK.images_for(settings)
    values = {
        "@FLANNEL@": flannel,
        "@PLUGIN@": plugin,
        "@NETWORK@": json.dumps(network(settings))[1:-1],
    }
    return filled("flannel.yaml.tmpl", values)


NETWORK = PodNetwork(
    name="flannel",
    images=(
        f"ghcr.io/flannel-io/flannel:{VERSION}",
        f"ghcr.io/flannel-io/flannel-cni-plugin:{CNI_PLUGIN_VERSION}",
    ),
    manifest=manifest,
    modules=("vxlan",),
    ports=("8472/udp",),  # flannel docs, "Backends": VXLAN on Linux
    namespaces=("kube-flannel",),
    pod_interface="cni0",
    configuration=("/etc/cni/net.d/10-flannel.conflist",),
    devices=("cni0", "flannel.1"),
    tunnels=("flannel.1",),
    container="kube-flannel",
    folders=("/run/flannel",),
    chains=("FLANNEL-",),  # flannel, pkg/trafficmngr/iptables
    tables=(("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6")),  # pkg/trafficmngr/nftables
)
