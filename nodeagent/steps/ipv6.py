"""Step: what a node that has only IPv6 needs of the kernel for its pods' traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action, Run
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, holds, removed
from nodeagent.steps.step import Step

FILE = "/etc/sysctl.d/99-nodeagent-ipv6.conf"  # sysctl.d(5); slashes, since names may have dots
# kubeadm looks at the second before init and join; the first is what forwards.
FORWARD = ("net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding")


@dataclass(frozen=True)
class Ipv6(Step):
    """Only where the node's address is an IPv6 one: elsewhere nothing of IPv6 is touched."""

    name = "ipv6"
    title = "Let the kernel forward the pods' IPv6 traffic"
    group = "Software"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On the running system; an image has no address."""
        network = settings.network
        if not facts.live or ":" not in (facts.address(network.interface, network.version) or ""):
            return
        wanted = dict.fromkeys(FORWARD, "1")
        learns = f"net/ipv6/conf/{facts.interface(network.interface)}/accept_ra"
        # A kernel that forwards would drop the routes that it learned itself (kernel docs,
        # ip-sysctl, accept_ra: 2 overrules that); 0 says that somebody else learns them.
        if _value(facts, learns) in ("1", "2"):
            wanted = {learns: "2", **wanted}
        text = HEADER + "".join(f"{name} = {value}\n" for name, value in wanted.items())
        yield from holds(facts, FILE, text)
        if any(_value(facts, name) != value for name, value in wanted.items()):
            yield Run(("sysctl", "-p", FILE))

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not at the next boot any more."""
        yield from removed(facts, FILE)


def _value(facts: Facts, name: str) -> str:
    return (facts.text(f"/proc/sys/{name}") or "").strip()
