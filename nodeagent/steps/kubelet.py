"""Step: the kubelet starts at boot, and crictl knows where containerd listens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action, Enable, Remove
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, holds, removed
from nodeagent.steps.step import Step

WANTED = "/etc/systemd/system/multi-user.target.wants/kubelet.service"
SOCKET = "unix:///run/containerd/containerd.sock"
# crictl would try other runtimes' sockets first, and warn each time (cri-tools docs, crictl.md).
CRICTL = f"{HEADER}runtime-endpoint: {SOCKET}\nimage-endpoint: {SOCKET}\n"


@dataclass(frozen=True)
class Kubelet(Step):
    """Enabled, not started: until kubeadm has configured it, it could only fail."""

    name = "kubelet"
    title = "Enable the kubelet"
    group = "Software"
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for mounted images."""
        if not facts.has_programs:
            return
        yield from holds(facts, "/etc/crictl.yaml", CRICTL)
        if not facts.exists(WANTED):
            yield Enable("kubelet.service", now=False)

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not started at boot any more; this is all that ``systemctl disable`` would do."""
        yield from removed(facts, "/etc/crictl.yaml")
        if facts.host.target(WANTED) is not None:
            yield Remove(WANTED)
