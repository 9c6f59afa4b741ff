"""Step: no swap. The kubelet does not start with it (its failSwapOn is true by default), and on
a card it wears out what it lies on. Each system has its own way of bringing it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config import Settings
from nodeagent.errors import Blocked
from nodeagent.host import swap
from nodeagent.host.actions import Action, Remove, Run, Write
from nodeagent.host.facts import Facts
from nodeagent.steps.files import HEADER, holds, masked, unit_exists

RPI_FILE = "/etc/rpi/swap.conf.d/90-nodeagent.conf"
RPI_TEXT = HEADER + "[Main]\nMechanism=none\n"
RPI_PARTS = (
    "/usr/lib/rpi/swap.conf",
    "/etc/rpi/swap.conf",
    "/usr/lib/systemd/system-generators/rpi-swap-generator",
)
ZRAM_GENERATOR = "/usr/lib/systemd/system-generators/zram-generator"
# Empty of sections: it hides the one below /usr/lib (zram-generator.conf(5)).
ZRAM_FILE = "/etc/systemd/zram-generator.conf"
# zram-tools, zram-config and Ubuntu's desktop settings each have one unit.
UNITS = ("zramswap.service", "zram-config.service", "mkswap.service", "swapfile.swap")
DPHYS_UNIT = "dphys-swapfile.service"
DPHYS_WANTED = f"/etc/systemd/system/multi-user.target.wants/{DPHYS_UNIT}"


@dataclass(frozen=True)
class Swap:
    """First everything that would bring it back, then what is on now."""

    name: str = "swap"
    title: str = "Turn swap off for good"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On the running system, and on an image. Raises Blocked."""
        if facts.any_of(*RPI_PARTS):
            yield from _rpi_swap(facts)
        if unit_exists(facts, DPHYS_UNIT):
            yield from _dphys(facts)
        if facts.exists(ZRAM_GENERATOR):
            text = facts.text(ZRAM_FILE)
            if text is None or "[" in text:
                yield Write(ZRAM_FILE, HEADER.encode())
        for unit in UNITS:
            if unit_exists(facts, unit):
                yield from masked(facts, unit)
        fstab = facts.read("/etc/fstab") or b""
        # latin-1 keeps every byte as it is, whatever the labels are written in.
        kept = swap.without_swap(fstab.decode("latin-1")).encode("latin-1")
        if kept != fstab:
            yield Write("/etc/fstab", kept)
        if facts.live and facts.swaps:
            yield from _off(facts)


def _rpi_swap(facts: Facts) -> Iterator[Action]:
    mechanism, where = swap.rpi_mechanism(facts, RPI_FILE)
    if mechanism != "none":
        raise Blocked(
            f"{where} sets the swap mechanism to {mechanism}, and nodeagent cannot overrule it.",
            f"Remove the line from {where}: Kubernetes runs without swap.",
        )
    yield from holds(facts, RPI_FILE, RPI_TEXT)


def _dphys(facts: Facts) -> Iterator[Action]:
    # Masked for now, size 0 for the day when an update of the package unmasks it.
    yield from masked(facts, DPHYS_UNIT)
    if facts.host.path(DPHYS_WANTED, follow=False).is_symlink():
        yield Remove(DPHYS_WANTED)
    settings = facts.text("/etc/dphys-swapfile") or ""
    yield from holds(
        facts, "/etc/dphys-swapfile", swap.with_setting(settings, "CONF_SWAPSIZE", "0")
    )


def _off(facts: Facts) -> Iterator[Action]:
    for name in facts.swaps:
        if name.startswith("/dev/zram"):
            # Stopped as a unit, or systemd would think that it is still wanted. 5: not loaded.
            unit = f"dev-{name.removeprefix('/dev/')}.swap"
            yield Run(("systemctl", "stop", unit), accept=(0, 5))
    # Reading a full swap back from a card takes minutes.
    yield Run(("swapoff", "-a"), timeout=900)
