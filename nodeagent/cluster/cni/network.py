"""What nodeagent has to know of a pod network.

Whether it works on a node is not part of that: Kubernetes says so itself, in the Node's conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from nodeagent.config.settings import Settings
from nodeagent.host.host import Host


@dataclass(frozen=True)
class PodNetwork:
    """One pod network: what it needs on a node, and what it leaves there.

    ``images``: complete names with tags, as in the manifest. ``manifest``: the YAML documents for
    kubectl apply, for validated settings. ``ports``: such as ``4789/udp``; the other nodes must
    reach them, and no other program may hold them; ``own_ports``: likewise, but asked by this node
    alone. ``namespaces``: of its own, that of its pods first; none where it runs in kube-system.
    ``policies``: a NetworkPolicy is enforced; None: not known. ``pod_interface``: by which pods'
    packets come into the node; a firewall is judged by it.

    ``tunnels``: devices that are made with the node's address, ``listener``: a TCP port that is
    listened on at it; where it changes, ``container``, whose they are, is started anew.

    Removed with the cluster, where they exist: ``configuration`` (files in /etc/cni/net.d),
    ``devices`` (ip-link(8); regular expressions), ``folders``, ``chains`` (how names of its
    iptables chains begin), ``tables`` (nftables: family and name), and, where its configuration is
    there, ``rules`` (what tells its rules in the chains of others, as iptables-save writes it),
    ``sets`` (how names of its sets begin, ipset(8)), ``routing_table`` with the rules that lead
    there (ip-rule(8)) and routes of ``route_protocol`` (ip-route(8), proto).
    """

    name: str
    images: tuple[str, ...]
    manifest: Callable[[Settings], str]
    modules: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    own_ports: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    policies: bool | None = False
    pod_interface: str = ""
    configuration: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    tunnels: tuple[str, ...] = ()
    listener: int = 0
    container: str = ""
    folders: tuple[str, ...] = ()
    chains: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    sets: tuple[str, ...] = ()
    routing_table: str = ""
    route_protocol: str = ""

    def made(self, device: str) -> bool:
        """Whether a device of this name is its own."""
        return any(re.fullmatch(pattern, device) for pattern in self.devices)

    def is_configured(self, host: Host) -> bool:
        """Whether it has written its configuration here, or an earlier cluster's has."""
        return any(map(host.exists, self.configuration))

    def images_for(self, settings: Settings) -> tuple[str, ...]:
        """The images' complete names; from `network.image_repository` where that is set."""
        mirror = settings.network.image_repository
        if mirror is None:
            return self.images
        return tuple(f"{mirror}/{image.rpartition('/')[2]}" for image in self.images)


def filled(template: str, values: Mapping[str, str]) -> str:
    """A manifest that lies beside this module, with ``values`` in the place of their names in it.
    All are validated settings."""
    text = resources.files("nodeagent.cluster.cni").joinpath(template).read_text()
    for name, value in values.items():
        text = text.replace(name, value)
    return text
