"""Step: the cluster's own networks share no address with those of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.cluster import networks
from nodeagent.cluster.cni import given
from nodeagent.config.settings import CHOSEN_FILE, Settings
from nodeagent.host.actions import Action, Remove
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import holds
from nodeagent.steps.step import Step


@dataclass(frozen=True)
class Networks(Step):
    """Done before the firewall is opened for them, and again once there is an address."""

    name = "networks"
    title = "Choose networks for pods and Services"
    group = "Network"
    why = "A pod network that holds the LAN takes the node's network away."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Until kubeadm has been at work. Raises Blocked, also for the manifest of a pod network
        that a person brings: here, since nothing has been changed yet."""
        if facts.live and not facts.exists(paths.KUBELET_CONF):
            given.check(facts, settings)
        fit = networks.fitted(facts, settings)
        if fit != settings:
            yield from holds(facts, CHOSEN_FILE, networks.text(fit))

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        network = networks.chosen(facts, settings).network
        return f"pods {network.pod_cidr}, Services {network.service_cidr}"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The next cluster chooses anew."""
        if facts.exists(CHOSEN_FILE):
            yield Remove(CHOSEN_FILE)
