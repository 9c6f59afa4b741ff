"""Step: no swap. The kubelet does not start with it (its failSwapOn is true by default), and on
a card it wears out what it lies on. Each system has its own way of bringing it back.

All of systemd's own ways (fstab, swap partitions on GPT disks, zram-generator, rpi-swap) go through
swap.target, which is masked as soon as swap was seen to be on. cloud-init's ``swap:`` writes a line
into fstab before the agent starts, at the first boot and with each new instance id. zswap is left
alone: it is a cache before a swap device, and without one it holds nothing (kernel docs,
admin-guide/mm/zswap). What a script of somebody's turns on is turned off again at each boot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host import swap
from nodeagent.host.actions import Action, Link, Remove, Run, Write
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, MASK, UNITS, holds, is_masked, removed, unit_exists
from nodeagent.steps.step import Step

RPI_FILE = "/etc/rpi/swap.conf.d/90-nodeagent.conf"
RPI_TEXT = HEADER + "[Main]\nMechanism=none\n"
RPI_PARTS = (
    "/usr/lib/rpi/swap.conf",
    "/etc/rpi/swap.conf",
    "/usr/lib/systemd/system-generators/rpi-swap-generator",
)
ZRAM_GENERATOR = "/usr/lib/systemd/system-generators/zram-generator"
ZRAM_FILE = "/etc/systemd/zram-generator.conf.d/99-nodeagent.conf"
DPHYS_UNIT = "dphys-swapfile.service"
DPHYS_FILE = "/etc/dphys-swapfile"
# dphys-swapfile, zram-tools, zram-config, Ubuntu's desktop settings, Armbian, systemd-swap and what
# people install from GitHub (zram-swap, zram) each have one service, some of them below /etc.
SERVICES = (
    DPHYS_UNIT, "zramswap.service", "zram-config.service", "mkswap.service",
    "armbian-zram-config.service", "systemd-swap.service", "zram-swap.service", "zram.service",
)  # fmt: skip
SHIPPED = ("/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system")
# A drop-in rather than a mask: it works on units that a person wrote below /etc too, no package
# lifts it, and it can be told from a mask that somebody else set.
DROP_IN = "90-nodeagent-no-swap.conf"
NEVER = HEADER + "# The root folder always exists, so this unit is skipped.\n"
NEVER += "[Unit]\nConditionPathExists=!/\n"
TARGET = f"{UNITS}/swap.target"
MASKED_BY_US = (
    HEADER + "# nodeagent has masked swap.target, `nodeagent reset` unmasks it.\n[Unit]\n"
)


@dataclass(frozen=True)
class Swap(Step):
    """First everything that would bring it back, then what is on now."""

    name = "swap"
    title = "Turn swap off for good"
    why = "The kubelet does not start while there is swap."
    on_image = True
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On the running system, and on an image. Raises Blocked."""
        changes = [*_target(facts), *_sources(facts), *_units(facts)]
        yield from changes
        if facts.live and (changes or facts.swaps):
            # Else the next service that starts would pull in what systemd has still in memory.
            yield Run(("systemctl", "daemon-reload"))
        if facts.live and facts.swaps:
            yield from _off(facts)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return "off, now and at boot"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The files as they were; swap is on again after the next boot."""
        if facts.exists(f"{TARGET}.d/{DROP_IN}") and is_masked(facts, "swap.target"):
            yield Remove(TARGET)
        for folder in facts.names(UNITS):
            if folder.endswith(".d"):
                yield from removed(facts, f"{UNITS}/{folder}/{DROP_IN}", folder=True)
        yield from removed(facts, RPI_FILE, folder=True)
        yield from removed(facts, ZRAM_FILE, folder=True)
        yield from _edited(facts, paths.FSTAB, swap.with_swap(_text(facts, paths.FSTAB)))
        text = _text(facts, DPHYS_FILE)
        if text == HEADER + swap.DPHYS_LINE:
            yield Remove(DPHYS_FILE)
        else:
            yield from _edited(facts, DPHYS_FILE, swap.dphys_on(text))


def _target(facts: Facts) -> Iterator[Action]:
    """For ways that are not known here, such as a GPT partition of type swap, which systemd takes
    as soon as fstab names no other (systemd issues 23900, 35429). First of all, while swap is
    seen to be on, so that a power cut after it leads to the same end."""
    if facts.live and facts.swaps and not is_masked(facts, "swap.target"):
        yield from holds(facts, f"{TARGET}.d/{DROP_IN}", MASKED_BY_US)
        yield Link(TARGET, MASK)


def _sources(facts: Facts) -> Iterator[Action]:
    """The files that say how much swap there shall be."""
    if facts.any_of(*RPI_PARTS):
        mechanism, where = swap.rpi_mechanism(facts, RPI_FILE)
        if mechanism != "none":
            raise _overruled(where, f"sets the swap mechanism to {mechanism}")
        yield from holds(facts, RPI_FILE, RPI_TEXT)
    if facts.exists(ZRAM_GENERATOR):
        devices, where = swap.zram_swaps(facts, ZRAM_FILE)
        if where:
            raise _overruled(where, "sets host-memory-limit for a zram device")
        # A machine with more memory than the limit gets no device, and 0 is less than any.
        text = HEADER + "".join(f"[{name}]\nhost-memory-limit = 0\n" for name in devices)
        yield from holds(facts, ZRAM_FILE, text)
    if unit_exists(facts, DPHYS_UNIT):
        before = facts.read(DPHYS_FILE)
        if before is None:
            # Without the file the size would be twice the memory.
            yield from holds(facts, DPHYS_FILE, HEADER + swap.DPHYS_LINE)
        elif _text(facts, DPHYS_FILE) != HEADER + swap.DPHYS_LINE:
            yield from _edited(facts, DPHYS_FILE, swap.dphys_off(_text(facts, DPHYS_FILE)))
    yield from _edited(facts, paths.FSTAB, swap.without_swap(_text(facts, paths.FSTAB)))


def _units(facts: Facts) -> Iterator[Action]:
    """The units that turn swap on: services known to, and every swap unit in a file."""
    units: set[str] = set()
    for folder in (*SHIPPED, UNITS):
        names = facts.names(folder)
        units |= {name for name in names if name.endswith(".swap") or name in SERVICES}
    for unit in sorted(units):
        if not is_masked(facts, unit):
            yield from holds(facts, f"{UNITS}/{unit}.d/{DROP_IN}", NEVER)


def _overruled(where: str, how: str) -> Blocked:
    return Blocked(
        f"{where} {how}, and nodeagent cannot overrule it.",
        f"Remove the line from {where}: Kubernetes runs without swap.",
    )


def _text(facts: Facts, path: str) -> str:
    """latin-1 keeps every byte as it is, whatever the file is written in."""
    return (facts.read(path) or b"").decode("latin-1")


def _edited(facts: Facts, path: str, text: str) -> Iterator[Action]:
    """The file with this text, in latin-1, and the mode it has."""
    data = text.encode("latin-1")
    if data != (facts.read(path) or b""):
        yield Write(path, data, facts.host.mode(path) or 0o644)


def _off(facts: Facts) -> Iterator[Action]:
    for name in facts.swaps:
        if name.startswith("/dev/zram"):
            # Stopped as a unit, or systemd would think that it is still wanted. 5: not loaded.
            unit = f"dev-{name.removeprefix('/dev/')}.swap"
            yield Run(("systemctl", "stop", unit), accept=(0, 5))
    # Reading a full swap back from a card takes minutes.
    yield Run(("swapoff", "-a"), timeout=900)
