"""Step: kernel modules for containers (overlay), for kube-proxy on bridges (br_netfilter), and for
the pod network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import cni
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action, Run
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, holds, removed
from nodeagent.steps.step import Step

MODULES = ("overlay", "br_netfilter")
FILE = "/etc/modules-load.d/nodeagent.conf"  # modules-load.d(5)


@dataclass(frozen=True)
class Modules(Step):
    """Loaded now and at each boot."""

    name = "modules"
    title = "Load the kernel modules for the pod network"
    why = "Containers and the pod network are made with them."
    on_image = True
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On the running system, and on an image (there: the file). Raises Blocked."""
        names = wanted(settings)
        yield from holds(facts, FILE, HEADER + "".join(f"{name}\n" for name in names))
        missing = [name for name in names if not loaded(facts, name)] if facts.live else []
        for name in missing:
            _check_available(facts, name)
        if missing:
            yield Run(("modprobe", "-a", *missing))

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return f"{', '.join(wanted(settings))} loaded"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Not at the next boot any more."""
        yield from removed(facts, FILE)


def wanted(settings: Settings) -> tuple[str, ...]:
    """The modules, each once."""
    return tuple(dict.fromkeys((*MODULES, *cni.chosen(settings).modules)))


def loaded(facts: Facts, name: str) -> bool:
    """Loaded (proc_modules(5)), or built into the kernel (kmod(8), modules.builtin)."""
    rows = (facts.text("/proc/modules") or "").splitlines()
    if any(row.split(" ", 1)[0] == name for row in rows) or facts.exists(f"/sys/module/{name}"):
        return True
    return _listed(facts, "modules.builtin", name)


def _check_available(facts: Facts, name: str) -> None:
    folder = f"/lib/modules/{facts.kernel}"
    if not facts.exists(f"{folder}/modules.dep"):
        raise Blocked(
            f"The modules of the running kernel {facts.kernel} are not on the card: the kernel"
            " was updated.",
            "Reboot the board.",
        )
    if not _listed(facts, "modules.dep", name):
        raise Blocked(
            f"The kernel {facts.kernel} has no module {name}.",
            "On Ubuntu 22.04 install linux-modules-extra-raspi; else update the kernel.",
        )


def _listed(facts: Facts, index: str, name: str) -> bool:
    """``name`` in a list of paths such as kernel/fs/overlayfs/overlay.ko.xz (modules.dep(5))."""
    text = facts.text(f"/lib/modules/{facts.kernel}/{index}") or ""
    return any(f"/{spelled}.ko" in text for spelled in (name, name.replace("_", "-")))
