"""The pod network: flannel with VXLAN, from our own manifest (flannel docs, "Kubernetes")."""

from __future__ import annotations

import json
from importlib import resources

from nodeagent.cluster.kubeadm import flannel_images
from nodeagent.cluster.versions import Tested
from nodeagent.config.settings import Settings


def network(settings: Settings) -> dict[str, object]:
    """The part of net-conf.json that says which network, of which IP version (flannel docs,
    "Configuration": IPv6 alone wants IPv4 off)."""
    if settings.network.version == 4:
        return {"Network": settings.network.pod_cidr}
    return {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": settings.network.pod_cidr}


def manifest(settings: Settings, tested: Tested) -> str:
    """The manifest with images and pod network filled in. All values are validated settings."""
    flannel, plugin = flannel_images(settings, tested)
    text = resources.files("nodeagent.cluster").joinpath("flannel.yaml.tmpl").read_text()
    for name, value in {
        "@FLANNEL@": flannel,
        "@PLUGIN@": plugin,
        "@NETWORK@": json.dumps(network(settings))[1:-1],
    }.items():
        text = text.replace(name, value)
    return text
