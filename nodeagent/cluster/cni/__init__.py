"""The pod networks that `network.cni` chooses from; each is one module, here and nowhere else.

What is to be done follows the settings (`chosen`). What is recognised as the cluster's own, or
removed with it, is what any of the networks brings: the settings may have changed since.
"""

from __future__ import annotations

from nodeagent import paths
from nodeagent.cluster.cni import flannel, given, kube_router
from nodeagent.cluster.cni.network import PodNetwork
from nodeagent.config.settings import Settings
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host

# The names stand in config.settings too, which may not import from here; a test compares them.
NETWORKS: dict[str, PodNetwork] = {
    network.name: network for network in (flannel.NETWORK, kube_router.NETWORK, given.NONE)
}


OURS = '"nodeagent: '  # how comments of rules begin that a manifest here puts beside a network's


def chosen(settings: Settings) -> PodNetwork:
    """The pod network of these settings."""
    return given.GIVEN if settings.network.manifest else NETWORKS[settings.network.cni]


def name(settings: Settings) -> str:
    """As others of the fleet are told: ``none`` for one that a person brings."""
    return given.NONE.name if settings.network.manifest else settings.network.cni


def made(device: str) -> bool:
    """Whether a device of this name is a pod network's."""
    return any(network.made(device) for network in NETWORKS.values())


def manifest(host: Host, settings: Settings) -> str:
    """What kubectl applies for it; empty for none. Raises Blocked."""
    if settings.network.manifest:
        return given.text(host, settings)
    return chosen(settings).manifest(settings)


def images(host: Host, settings: Settings) -> tuple[str, ...]:
    """The complete names of its images, as far as they are known."""
    if settings.network.manifest:
        return given.images(host)
    return chosen(settings).images_for(settings)


def of_others(facts: Facts, settings: Settings) -> tuple[list[str], list[str]]:
    """The files of other networks: those that win over the chosen one's, and those that count only
    while that is not there. containerd takes the first by name of those that end so (containerd
    docs, cri/config.md, max_conf_num; libcni, ConfFiles)."""
    ours = {path.rpartition("/")[2] for path in chosen(settings).configuration}
    before: list[str] = []
    after: list[str] = []
    for name in facts.names(paths.CNI_CONFIG):
        path = f"{paths.CNI_CONFIG}/{name}"
        read = name.endswith((".conf", ".conflist", ".json")) and not facts.host.path(path).is_dir()
        if read and name not in ours:
            # A network whose files are not known may come with any name.
            (before if not ours or name < min(ours) else after).append(path)
    return before, after
