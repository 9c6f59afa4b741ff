"""What is to be installed, and from where: shared by the steps on repositories, packages and
containerd. A helper, not a step."""

from __future__ import annotations

from nodeagent.cluster import versions
from nodeagent.config import Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts

KUBERNETES = ("kubelet", "kubeadm", "kubectl")
DOCKER_PACKAGE, DISTRO_PACKAGE = "containerd.io", "containerd"
# What the Kubernetes packages only recommend: kubeadm refuses a node without iptables, flannel
# needs the CNI plugins, and images are pulled with crictl (kubernetes/release, debs since 1.32).
BESIDE = ("iptables", "kubernetes-cni", "cri-tools")
# The kubelet's own credentials: from here on it is a member of a cluster (kubeadm docs,
# "Implementation details").
MEMBER = "/etc/kubernetes/kubelet.conf"
# Distributions whose own containerd is older than 2 (packages.debian.org). With what is not
# listed 2.x is assumed; the step after installation looks again.
BEFORE_2 = frozenset({"bookworm", "trixie"})


def containerd_package(facts: Facts, settings: Settings) -> str:
    """``containerd.io`` (Docker's) or ``containerd``.

    ``auto`` keeps what is installed; else Ubuntu's own is of the 2.x line that this Kubernetes
    is tested with, and Debian's is older, so there it is Docker's.
    """
    if settings.containerd.source == "auto":
        for name in (DOCKER_PACKAGE, DISTRO_PACKAGE):
            if facts.packages.version(name):
                return name
        return DISTRO_PACKAGE if facts.os_id == "ubuntu" else DOCKER_PACKAGE
    return DOCKER_PACKAGE if settings.containerd.source == "docker" else DISTRO_PACKAGE


def containerd_release(facts: Facts, settings: Settings) -> tuple[int, int]:
    """Major and minor of the containerd that is installed, or that will be."""
    name = containerd_package(facts, settings)
    words = (facts.packages.version(name) or "").replace("~", ".").replace("+", ".").split(".")
    if len(words) >= 2 and words[0].isdecimal() and words[1].isdecimal():
        return int(words[0]), int(words[1])
    return (1, 7) if name == DISTRO_PACKAGE and facts.codename in BEFORE_2 else (2, 2)


def minor(settings: Settings) -> str:
    """``1.36`` of a wish for 1.36 or 1.36.5."""
    return ".".join(settings.kubernetes.version.split(".")[:2])


def tested(settings: Settings) -> versions.Tested:
    """The releases that belong to the wanted Kubernetes. Raises Blocked."""
    found = versions.tested(minor(settings))
    if found is None:
        known = ", ".join(one.minor for one in versions.TESTED)
        raise Blocked(
            f"This nodeagent does not know Kubernetes {minor(settings)}.",
            f"Write one of {known} as kubernetes.version, or install a newer nodeagent.",
        )
    return found


def missing(facts: Facts, settings: Settings) -> tuple[str, ...]:
    """What apt-get shall install, such as ``kubelet=1.36.4-*``; empty when all is there.

    A member of a cluster keeps its release, whatever the settings say: moving a kubelet to
    another release is an upgrade of the cluster, not preparation.
    """
    wanted = [containerd_package(facts, settings), *BESIDE]
    wanted = [name for name in wanted if not facts.packages.version(name)]
    return (*wanted, *_kubernetes(facts, settings))


def _kubernetes(facts: Facts, settings: Settings) -> list[str]:
    wish = settings.kubernetes.version
    exact = wish.count(".") == 2
    there = {name: facts.packages.version(name) for name in KUBERNETES}
    if facts.exists(MEMBER):
        fitting = {name: found for name, found in there.items() if found}
    else:
        fitting = {
            name: found
            for name, found in there.items()
            if found and (found == wish if exact else found.startswith(f"{wish}."))
        }
    if len(fitting) == len(KUBERNETES):
        return []
    # All three of one release: that of what is there already, of the wish, or the tested one.
    release = next(iter(fitting.values()), wish if exact else tested(settings).kubernetes)
    pattern = versions.DEB_REVISION.format(version=release)
    return [f"{name}={pattern}" for name in KUBERNETES if name not in fitting]
