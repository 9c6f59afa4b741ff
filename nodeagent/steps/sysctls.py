"""Step: the kernel settings that kubeadm checks and the pod network needs (Kubernetes docs,
"Container runtimes", network configuration; the bridge ones lead pods on a bridge to Services)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import cni
from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action, Run
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, holds, removed
from nodeagent.steps.step import Step

SYSCTLS = {
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
    "net.ipv4.ip_forward": "1",
}
FILE = "/etc/sysctl.d/99-nodeagent.conf"  # sysctl.d(5)


@dataclass(frozen=True)
class Sysctls(Step):
    """Set now and at each boot."""

    name = "sysctls"
    title = "Let the kernel forward and filter the pods' traffic"
    why = "Without them pods reach neither Services nor other nodes."
    on_image = True
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On the running system, and on an image (there: the file)."""
        values = {**SYSCTLS, **cni.chosen(settings).sysctls}
        text = HEADER + "".join(f"{name} = {value}\n" for name, value in values.items())
        yield from holds(facts, FILE, text)
        if facts.live and not all(_is_set(facts, *item) for item in values.items()):
            yield Run(("sysctl", "-p", FILE))

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return "forwarding and bridge filtering on"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not at the next boot any more."""
        yield from removed(facts, FILE)


def _is_set(facts: Facts, name: str, value: str) -> bool:
    return (facts.text(f"/proc/sys/{name.replace('.', '/')}") or "").strip() == value
