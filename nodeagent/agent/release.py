"""The Kubernetes and the networks of a node that joins are those of the cluster.

A kubelet may not be newer than the API server, and kubeadm joins clusters of its own minor
(kubernetes.io, "Version Skew Policy"; kubeadm docs, "Creating a cluster with kubeadm", version
skew). Which cluster a node comes to, it knows when that lets it in; until then it has what the
settings name, by default the newest.
"""

from __future__ import annotations

from nodeagent import steps
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import kubeadm, kubeadm_state, networks, packages, versions
from nodeagent.config import settings as config
from nodeagent.config.settings import RELEASE_FILE, Settings
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.join.statement import Cluster
from nodeagent.statefile import StateFile
from nodeagent.steps import engine
from nodeagent.steps.firewall import Firewall
from nodeagent.steps.modules import Modules
from nodeagent.steps.pod_network import PodNetwork
from nodeagent.steps.ports import Ports
from nodeagent.steps.sysctls import Sysctls

HEADER = "# The release of the cluster; what you write elsewhere counts more.\n"


def fit(
    host: Host, settings: Settings, state_file: StateFile, reporter: Reporter, cluster: str
) -> bool:
    """Install the cluster's release where another minor is here; True where that was done.

    ``cluster``: its Kubernetes, such as 1.36.4. What counts is what is installed, so a run that was
    cut off goes on at the next try. Raises Blocked where a person's settings name another minor or
    this nodeagent does not know the cluster's, and what ``make_room`` and ``engine.run`` raise.
    """
    minor, here = packages.minor(cluster), Facts(host).packages.version("kubelet") or ""
    if packages.minor(here) == minor:
        return False
    origin = config.load(host).origins["kubernetes.version"]
    if origin.where != "default" and not origin.where.startswith(RELEASE_FILE):
        raise Blocked(
            f"The cluster runs Kubernetes {cluster}, and the settings of this node name"
            f" {origin.value} ({origin.where}).",
            f"Remove `kubernetes.version` there, or write {minor}; the agent then goes on by"
            " itself.",
        )
    if versions.tested(minor) is None:
        raise Blocked(
            f"The cluster runs Kubernetes {cluster}, which this nodeagent does not install.",
            "Install a nodeagent on this node that does, or add it without: `sudo nodeagent"
            " join-command` on the control plane prints how.",
        )
    content = f'{HEADER}kubernetes:\n  version: "{cluster}"\n'.encode()
    if host.read(RELEASE_FILE) != content:
        said = f"The cluster runs Kubernetes {cluster}; this node gets it in place of {here}"
        reporter.milestone("release", said)
        host.make_folder(RELEASE_FILE.rpartition("/")[0])
        host.write(RELEASE_FILE, content)
    # A join that was cut off has left a kubelet's files, and a member's packages are not touched.
    kubeadm.make_room(host, kubeadm_state.read(host))
    learned = config.load(host).settings
    engine.run(steps.SOFTWARE, host, learned, state_file, reporter.progress)
    return True


def take_networks(
    host: Host, settings: Settings, state_file: StateFile, reporter: Reporter, cluster: Cluster
) -> None:
    """Prepare the node for the cluster's networks and keep them; an older nodeagent does not tell
    them. Raises Blocked where they hold this node's LAN, what ``engine.run`` raises, and OSError;
    the same call again then goes on."""
    networks.check_joining(Facts(host), settings, cluster.networks)
    if not cluster.networks:
        return
    learned = networks.with_those_of(settings, cluster.networks, cluster.cni)
    networks.learn(Facts(host), learned)  # the firewall is opened for what is kept
    needed = (Ports(), Modules(), Sysctls(), Firewall(), PodNetwork())
    engine.run(needed, host, learned, state_file, reporter.progress)
    networks.learn_pod_network(host, cluster.cni)
