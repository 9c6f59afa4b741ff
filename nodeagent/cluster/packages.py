"""What is to be installed, and from where: shared by the steps on repositories, packages and
containerd. A helper, not a step."""

from __future__ import annotations

from dataclasses import replace

from nodeagent import paths
from nodeagent.cluster import versions
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts

KUBERNETES = ("kubelet", "kubeadm", "kubectl")
DOCKER_PACKAGE, DISTRO_PACKAGE = "containerd.io", "containerd"
# What the Kubernetes packages only recommend: kubeadm refuses a node without iptables, pod networks
# need the CNI plugins, and images are pulled with crictl (kubernetes/release, debs since 1.32).
BESIDE = ("iptables", "kubernetes-cni", "cri-tools")
# The kubelet's own credentials: from here on it is a member of a cluster (kubeadm docs,
# "Implementation details").
# The containerd of releases whose own is too old for a Kubernetes of the table
# (packages.debian.org). Ubuntu gives its releases 2.2 (packages.ubuntu.com: jammy and noble in
# -updates and -security); what is not listed is taken for newer.
OWN_CONTAINERD = {"bookworm": (1, 6), "trixie": (1, 7), "forky": (2, 1)}
NEWER = (2, 2)
DOCKERS = (2, 3)  # of containerd.io; where another one comes, its configuration is made to fit


def containerd_package(facts: Facts, settings: Settings) -> str:
    """``containerd.io`` (Docker's) or ``containerd``.

    ``auto`` keeps what is installed; else takes Ubuntu's own where that is new enough for the
    wished Kubernetes, and Docker's elsewhere. A member of a cluster keeps what it runs with.
    """
    if settings.containerd.source == "auto" or facts.exists(paths.KUBELET_CONF):
        for name in (DOCKER_PACKAGE, DISTRO_PACKAGE):
            if facts.packages.version(name):
                return name
        if settings.containerd.source == "auto" and facts.os_id == "ubuntu":
            least = versions.tested(minor(settings.kubernetes.version)) or versions.DEFAULT
            own = OWN_CONTAINERD.get(facts.codename, NEWER)
            return DISTRO_PACKAGE if own >= least.containerd_minimum else DOCKER_PACKAGE
    return DISTRO_PACKAGE if settings.containerd.source == "distro" else DOCKER_PACKAGE


def containerd_release(facts: Facts, settings: Settings) -> tuple[int, int]:
    """Major and minor of the containerd that is installed, or that will be."""
    name = containerd_package(facts, settings)
    words = (facts.packages.version(name) or "").replace("~", ".").replace("+", ".").split(".")
    if len(words) >= 2 and words[0].isdecimal() and words[1].isdecimal():
        return int(words[0]), int(words[1])
    return OWN_CONTAINERD.get(facts.codename, NEWER) if name == DISTRO_PACKAGE else DOCKERS


def minor(version: str) -> str:
    """``1.36`` of ``1.36`` or ``1.36.5``."""
    return ".".join(version.split(".")[:2])


def wished(settings: Settings) -> versions.Tested:
    """The releases that belong to the Kubernetes of the settings. Raises Blocked."""
    wish = settings.kubernetes.version
    found = versions.tested(minor(wish))
    if found is None:
        known = ", ".join(one.minor for one in versions.TESTED)
        raise Blocked(
            f"This nodeagent does not make clusters of Kubernetes {minor(wish)}.",
            f"Write one of {known} as kubernetes.version, or install another nodeagent.",
        )
    return replace(found, kubernetes=wish) if wish.count(".") == 2 else found


def release(facts: Facts, settings: Settings) -> versions.Tested:
    """The releases of this node: with the Kubernetes that is installed where that is as wished,
    and on a member of a cluster whatever the settings say; else with the one that is wished.

    Of a release that is not in the table, its own kubeadm says what belongs to it. Raises Blocked,
    except on a member.
    """
    installed = facts.packages.version("kubelet")
    if installed and facts.exists(paths.KUBELET_CONF):
        found = versions.tested(minor(installed)) or versions.DEFAULT
    else:
        found = wished(settings)
        if not installed or not f"{installed}.".startswith(f"{settings.kubernetes.version}."):
            return found
    found = replace(found, kubernetes=installed)
    if found in versions.TESTED or not facts.has_programs:
        return found
    listed = facts.ask(
        "kubeadm", "config", "images", "list", "--kubernetes-version", f"v{installed}"
    ).out.split()
    tags = dict(name.rpartition("/")[2].split(":", 1) for name in listed if ":" in name)
    return replace(
        found,
        pause=tags.get("pause", found.pause),
        etcd=tags.get("etcd", found.etcd),
        coredns=tags.get("coredns", found.coredns),
    )


def missing(facts: Facts, settings: Settings) -> tuple[str, ...]:
    """What apt-get shall install, such as ``kubelet=1.36.4-*``; empty when all is there.

    A member of a cluster keeps its release, whatever the settings say: moving a kubelet to
    another release is an upgrade of the cluster, not preparation.
    """
    beside = [name for name in BESIDE if not facts.packages.version(name)]
    return (*_containerd(facts, settings), *beside, *_kubernetes(facts, settings))


def _containerd(facts: Facts, settings: Settings) -> list[str]:
    """Of the major release that is tested: a later one may read its configuration otherwise.
    Too old a one is refused or upgraded, except where it runs a member of a cluster."""
    name = containerd_package(facts, settings)
    version = facts.packages.version(name)
    if version and facts.exists(paths.KUBELET_CONF):
        return []
    wanted = release(facts, settings)
    if version and containerd_release(facts, settings) >= wanted.containerd_minimum:
        return []
    least = ".".join(str(part) for part in wanted.containerd_minimum)
    own = OWN_CONTAINERD.get(facts.codename, NEWER)
    if name == DISTRO_PACKAGE and own < wanted.containerd_minimum:
        has = version or ".".join(str(part) for part in own)
        raise Blocked(
            f"The containerd of this system is {has}; Kubernetes {wanted.minor} is tested with"
            f" {least} and newer.",
            "Remove it with `apt-get remove containerd`, and the agent installs Docker's."
            if version
            else "Write `containerd: {source: auto}` into nodeagent.yaml; the agent then installs"
            " Docker's.",
        )
    if name == DOCKER_PACKAGE and facts.packages.version(DISTRO_PACKAGE):
        raise Blocked(
            "The settings ask for Docker's containerd, but the system's own is installed, and only"
            " one can be.",
            "Remove it with `apt-get remove containerd`, or write `containerd: {source: auto}` to"
            " keep it.",
        )
    return [f"{name}={wanted.containerd.split('.')[0]}.*"]


def _kubernetes(facts: Facts, settings: Settings) -> list[str]:
    wish = settings.kubernetes.version
    exact = wish.count(".") == 2
    there = {name: facts.packages.version(name) for name in KUBERNETES}
    if facts.exists(paths.KUBELET_CONF):
        fitting = {name: found for name, found in there.items() if found}
    else:
        fitting = {
            name: found
            for name, found in there.items()
            if found and (found == wish if exact else found.startswith(f"{wish}."))
        }
    if len(fitting) == len(KUBERNETES):
        return []
    # All three of one release: that of what is there already, or the wished one.
    one = next(iter(fitting.values()), "") or wished(settings).kubernetes
    pattern = versions.DEB_REVISION.format(version=one)
    return [f"{name}={pattern}" for name in KUBERNETES if name not in fitting]
