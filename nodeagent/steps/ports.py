"""Step: nobody else holds the ports that the cluster needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import kubeadm_state, ports
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts
from nodeagent.host.net import sockets
from nodeagent.steps.step import Step


@dataclass(frozen=True)
class Ports(Step):
    """Said before anything is installed, since kubeadm would say it only at the very end."""

    name = "ports"
    title = "Check that the cluster's ports are free"
    group = "Network"
    why = "Another program on one of them keeps the cluster from starting."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only looks, and only while kubeadm has done nothing here: what holds the ports after
        that is the cluster itself. Raises Blocked."""
        yield from ()
        if not facts.live or kubeadm_state.read(facts.host) is not kubeadm_state.State.NOTHING:
            return
        listening = {(one.protocol, one.port): one for one in sockets.listeners(facts)}
        for port in ports.needed(settings):
            taken = listening.get((port.protocol, port.number))
            if taken is None or not port.exclusive:
                continue
            by = sockets.holder(facts, taken.inode)
            who = f"{by.name} (process {by.pid})" if by is not None else "another program"
            if by is not None and by.unit:
                remedy = f"Stop it with `sudo systemctl disable --now {by.unit}`"
            else:
                remedy = f"Stop it; `sudo ss -lnp 'sport = :{port.number}'` shows it"
            if port.leads and settings.role == "auto":
                remedy += ", or write `role: worker` into nodeagent.yaml"
            raise Blocked(
                f"Port {port.number}/{port.protocol} is held by {who}; the cluster needs it for"
                f" {port.what}.",
                f"{remedy}. The agent then goes on by itself.",
            )

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return "free, or held by the cluster"
