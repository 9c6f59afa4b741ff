"""Step: the pod network's manifest is at hand where a person brings it, and no other network's
configuration stands before its own.

An earlier cluster leaves its files in /etc/cni/net.d (``kubeadm reset`` does not remove them), and
some packages bring one. containerd takes the first by name, so that pods would get addresses of a
network that is none (kubernetes/kubeadm issue 1822, k3s-io/k3s issue 2898).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.cluster import cni, kubeadm_state
from nodeagent.cluster.cni import given
from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action, Remove, Write
from nodeagent.host.boot.files import BACKUP
from nodeagent.host.facts import Facts
from nodeagent.steps.step import Step


@dataclass(frozen=True)
class PodNetwork(Step):
    """Before a node is a member; what stands in a member's folder, somebody put there since."""

    name = "pod-network"
    title = "Make room for the pod network"
    group = "Network"
    why = "containerd takes the first file by name in /etc/cni/net.d for the pods' network."
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """A file is moved to its name with .nodeagent-backup behind it, which nobody reads. Raises
        Blocked."""
        if not facts.has_programs or facts.exists(paths.KUBELET_CONF):
            return
        yield from given.needed(facts, settings)
        if not facts.live:
            return
        if kubeadm_state.read(facts.host) is kubeadm_state.State.FOREIGN:
            return
        for path in cni.of_others(facts, settings)[0]:
            content, backup = facts.read(path) or b"", path + BACKUP
            if facts.exists(backup) and facts.read(backup) != content:
                backup = f"{path}.{int(facts.now)}{BACKUP}"
            yield Write(backup, content, facts.host.mode(path) or 0o600)
            yield Remove(path)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return f"no other network before {cni.chosen(settings).name}"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The files are back where they were."""
        if facts.exists(given.KEPT):
            yield Remove(given.KEPT)
        for name in facts.names(paths.CNI_CONFIG):
            path = f"{paths.CNI_CONFIG}/{name.removesuffix(BACKUP)}"
            if not name.endswith(BACKUP):
                continue
            if not facts.exists(path):
                content, mode = facts.read(path + BACKUP), facts.host.mode(path + BACKUP)
                yield Write(path, content or b"", mode or 0o600)
            yield Remove(path + BACKUP)
