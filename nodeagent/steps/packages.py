"""Step: containerd, kubelet, kubeadm and kubectl are installed, and the last three held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config import Settings
from nodeagent.host.actions import Action, Remove, Run
from nodeagent.host.dpkg import LISTS
from nodeagent.host.facts import Facts
from nodeagent.steps import runtime

# A first boot has other users of apt: cloud-init, unattended-upgrades (apt.conf(5)).
LOCK = "DPkg::Lock::Timeout=600"
KEEP = ("--force-confdef", "--force-confold")  # our containerd configuration stays: dpkg(1)
UPDATE = ("apt-get", "update", "-q")
# --fix-broken: after a power cut half of the packages may lack the other half (apt-get(8)).
INSTALL = (
    "apt-get", "install", "-q", "-y", "--no-install-recommends", "--fix-broken",
    "--allow-change-held-packages", "--allow-downgrades",
)  # fmt: skip
SLOW = 3600.0  # seconds; an old card needs half an hour for what a fast one does in a minute


@dataclass(frozen=True)
class InstalledPackages:
    """One apt-get for all of it: starting apt costs most of the time on a slow board."""

    name: str = "packages"
    title: str = "Install containerd and Kubernetes"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not for images. Each action may be cut off and done again. Raises Blocked."""
        if not facts.live:
            return
        wanted = runtime.missing(facts, settings)
        if facts.packages.journal_left or (wanted and facts.packages.interrupted):
            # Power went while dpkg worked. 1: some need what apt-get will bring next.
            yield Run(("dpkg", "--configure", "-a", *KEEP), timeout=SLOW, accept=(0, 1))
        if wanted:
            yield from _lists_anew(facts)
            yield Run((*UPDATE, "--error-on=any", "-o", "Acquire::Languages=none"), timeout=SLOW)
            keep = [word for option in KEEP for word in ("-o", f"Dpkg::Options::={option}")]
            yield Run((*INSTALL, "-o", LOCK, *keep, *wanted), timeout=SLOW)
        selections = {name: facts.packages.get(name) for name in runtime.KUBERNETES}
        held = [found is not None and found.selection == "hold" for found in selections.values()]
        if wanted or not all(held):
            # What apt-mark hold does, without reading all of apt's lists first.
            text = "".join(f"{name} hold\n" for name in runtime.KUBERNETES)
            yield Run(("dpkg", "--set-selections"), stdin=text)


def _lists_anew(facts: Facts) -> Iterator[Action]:
    """apt does not sync its lists: a power cut leaves empty ones, which it then takes for
    current as long as the repository does not change. Without its Release it fetches anew."""
    names = facts.names(LISTS)
    cut = any(
        facts.size(f"{LISTS}/{name}") == 0 for name in names if "_Packages" in name or _is_top(name)
    )
    for name in names:
        if cut and (_is_top(name) or "_Packages" in name):
            yield Remove(f"{LISTS}/{name}")


def _is_top(name: str) -> bool:
    return name.endswith(("_InRelease", "_Release"))
