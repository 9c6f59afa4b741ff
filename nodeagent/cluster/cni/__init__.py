"""The pod networks that `network.cni` chooses from; each is one module, here and nowhere else.

What is to be done follows the settings (`chosen`). What is recognised as the cluster's own, or
removed with it, is what any of the networks brings: the settings may have changed since.
"""

from __future__ import annotations

from nodeagent.cluster.cni import flannel
from nodeagent.cluster.cni.network import PodNetwork
from nodeagent.config.settings import Settings

# The names stand in config.settings too, which may not import from here; a test compares them.
NETWORKS: dict[str, PodNetwork] = {network.name: network for network in (flannel.NETWORK,)}


def chosen(settings: Settings) -> PodNetwork:
    """The pod network of these settings."""
    return NETWORKS[settings.network.cni]
