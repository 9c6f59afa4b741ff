"""kube-router: routes by BGP between the nodes, NetworkPolicy by iptables and ipset, from our own
manifest (kube-router docs, user-guide.md). kube-proxy stays; across subnets it tunnels, IP in IP.
"""

from __future__ import annotations

from nodeagent.cluster.cni.network import PodNetwork, filled
from nodeagent.config.settings import Settings

VERSION = "v2.1.0"
# Its health, and gobgp's commands, which take no password: no option keeps them to this node.
OWN_PORTS = ("20244/tcp", "50051/tcp")
CLOSED = "nodeagent: for this node alone"  # comment of the rule for it


def manifest(settings: Settings) -> str:
    """The manifest with image and networks filled in."""
    (image,) = NETWORK.images_for(settings)
    version = settings.network.version
    values = {
        "@IMAGE@": image,
        "@CLOSED@": CLOSED,
        "@OWN_PORTS@": ",".join(port.partition("/")[0] for port in OWN_PORTS),
        "@SERVICES@": settings.network.service_cidr,
        "@IPV4@": str(version == 4).lower(),
        "@IPV6@": str(version == 6).lower(),
        # A BGP identifier is four bytes; without an IPv4 address one has to be made.
        "@ROUTER_ID@": "" if version == 4 else "generate",
    }
    return filled("kube-router.yaml.tmpl", values)


NETWORK = PodNetwork(
    name="kube-router",
    images=(f"docker.io/cloudnativelabs/kube-router:{VERSION}",),
    manifest=manifest,
    modules=("ip_set", "xt_set", "ipip"),
    ports=("179/tcp",),  # BGP (RFC 4271)
    own_ports=OWN_PORTS,
    namespaces=("kube-router",),
    policies=True,
    pod_interface="kube-bridge",
    configuration=("/etc/cni/net.d/10-kuberouter.conflist",),
    # The second: generateTunnelName (pkg/controllers/routing/utils.go).
    devices=("kube-bridge", "tun-[0-9a-f]{11}"),
    listener=179,
    container="kube-router",
    # Its chains begin with KUBE-, as Kubernetes' own; the rest as in pkg/controllers/routing and
    # pkg/controllers/netpol of that release.
    rules=(
        "--match-set kube-router-",
        "--match-set inet6:kube-router-",
        '"allow outbound traffic from pods"',
        '"allow inbound traffic to pods"',
        '"allow outbound node port traffic on node interface with which node ip is associated"',
    ),
    sets=("kube-router-", "KUBE-SRC-", "KUBE-DST-"),
    routing_table="77",
    route_protocol="17",  # zebraRouteOriginator (network_routes_controller.go)
)
