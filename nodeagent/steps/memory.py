"""Step: a board that shall lead is large enough for a control plane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import kubeadm_state
from nodeagent.cluster.requirements import CPUS, MEMORY_MIB, can_lead
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts
from nodeagent.steps.step import Step


@dataclass(frozen=True)
class Memory(Step):
    """Only for a role that a person chose; the election passes small boards over by itself."""

    name = "memory"
    title = "Check that the board is large enough for its role"
    group = "Board"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only looks. A cluster that is there already is not stopped for it. Raises Blocked."""
        yield from ()
        if not facts.live or settings.role != "control-plane" or can_lead(facts):
            return
        if kubeadm_state.read(facts.host) is kubeadm_state.State.CONTROL_PLANE:
            return
        raise Blocked(
            f"This board has {facts.memory_mib} MiB of memory and {facts.cpus} CPU"
            f"{'s' if facts.cpus != 1 else ''}; a control plane needs {MEMORY_MIB} MiB and {CPUS}.",
            "Write `role: worker` or `role: auto` (or `nodeagent role --worker`) here, and let a"
            " larger board lead.",
        )
