"""Step: containerd, kubelet, kubeadm and kubectl are installed, and the last three held.

Held packages stay where they are in `apt-get upgrade` and `full-upgrade` (apt-mark(8), ``hold``):
the kubelet moves only when somebody moves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import packages
from nodeagent.config.settings import RELEASE_FILE, Settings
from nodeagent.host.actions import Action, Remove
from nodeagent.host.apt import lists, locks
from nodeagent.host.apt.actions import Apt, AptInstall, AptUpdate
from nodeagent.host.facts import Facts
from nodeagent.steps import sources
from nodeagent.steps.step import Step

# Our containerd configuration stays: dpkg(1).
CONFIGURE = ("dpkg", "--configure", "-a", "--force-confdef", "--force-confold")


@dataclass(frozen=True)
class InstalledPackages(Step):
    """One apt-get for all of it: starting apt costs most of the time on a slow board."""

    name = "packages"
    title = "Install containerd and Kubernetes"
    group = "Software"
    why = "The kubelet, kubeadm and containerd have to fit together."
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for mounted images. Each action may be cut off and done again. Raises Blocked."""
        if not facts.has_programs:
            return
        wanted = packages.missing(facts, settings)
        repair = facts.packages.journal_left or (wanted and facts.packages.interrupted)
        hold = bool(wanted) or not _held(facts)
        if not (repair or hold):
            return
        # A first boot has other users of apt: cloud-init, unattended-upgrades. While one works,
        # its packages look as if dpkg had been cut off, and that is none of our business.
        holder = locks.holder(facts.host)
        if holder is not None:
            if hold:
                raise holder.blocked()
            return
        if repair:
            # Power went while dpkg worked. 1: some need what apt-get will bring next.
            yield Apt(CONFIGURE, accept=(0, 1))
        if wanted:
            # Without its Release apt fetches a list anew.
            yield from map(Remove, lists.damaged(facts))
            yield AptUpdate(sources.own_files(facts))
            yield AptInstall(wanted)
        if hold:
            # What apt-mark hold does, without reading all of apt's lists first.
            text = "".join(f"{name} hold\n" for name in packages.KUBERNETES)
            yield Apt(("dpkg", "--set-selections"), timeout=120, stdin=text)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        names = (packages.containerd_package(facts, settings), *packages.KUBERNETES)
        return ", ".join(f"{name} {facts.packages.version(name)}" for name in names)

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not held any more; installed they stay. The next cluster may be of another release."""
        if facts.exists(RELEASE_FILE):
            yield Remove(RELEASE_FILE)
        found = {name: facts.packages.get(name) for name in packages.KUBERNETES}
        held = [name for name, p in found.items() if p is not None and p.selection == "hold"]
        if facts.live and held:
            text = "".join(f"{name} install\n" for name in held)
            yield Apt(("dpkg", "--set-selections"), timeout=120, stdin=text)


def _held(facts: Facts) -> bool:
    found = [facts.packages.get(name) for name in packages.KUBERNETES]
    return all(package is not None and package.selection == "hold" for package in found)
