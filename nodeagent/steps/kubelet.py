"""Step: the kubelet starts at boot, and crictl knows where containerd listens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action, Enable, Remove, Run
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, holds, removed
from nodeagent.steps.step import Step

WANTED = "/etc/systemd/system/multi-user.target.wants/kubelet.service"
SOCKET = "unix:///run/containerd/containerd.sock"
# crictl would try other runtimes' sockets first, and warn each time (cri-tools docs, crictl.md). It
# gives containerd two seconds for an answer, in which a busy small board stops no container.
CRICTL = f"{HEADER}runtime-endpoint: {SOCKET}\nimage-endpoint: {SOCKET}\ntimeout: 30\n"
DROP_IN = "/etc/systemd/system/kubelet.service.d/05-nodeagent.conf"
# The package has it start at boot, and again every ten seconds (kubernetes/release,
# kubelet.service): half of a processor of a Pi 3, for nothing, while the node prepares and joins.
CONFIGURED = f"{HEADER}[Unit]\nConditionPathExists={paths.KUBELET}/config.yaml\n"


@dataclass(frozen=True)
class Kubelet(Step):
    """Enabled, and not started before kubeadm has configured it: until then it could only fail."""

    name = "kubelet"
    title = "Enable the kubelet"
    group = "Software"
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for mounted images."""
        if not facts.has_programs:
            return
        yield from holds(facts, "/etc/crictl.yaml", CRICTL)
        if facts.text(DROP_IN) != CONFIGURED:
            yield from holds(facts, DROP_IN, CONFIGURED)
            if facts.live:
                yield Run(("systemctl", "daemon-reload"))
        if not facts.exists(WANTED):
            yield Enable("kubelet.service", now=False)

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not started at boot any more; this is all that ``systemctl disable`` would do."""
        yield from removed(facts, "/etc/crictl.yaml")
        yield from removed(facts, DROP_IN, folder=True)
        if facts.host.target(WANTED) is not None:
            yield Remove(WANTED)
