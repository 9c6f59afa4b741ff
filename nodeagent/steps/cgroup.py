"""Step: the memory cgroup is on. Raspberry Pi kernels have it off by default (the firmware puts
``cgroup_disable=memory`` first on the command line), and kubeadm refuses to start without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host import mounts
from nodeagent.host.actions import Action, Reboot, Write
from nodeagent.host.boot import cmdline, device
from nodeagent.host.boot import files as bootfiles
from nodeagent.host.boot import undo as bootundo
from nodeagent.host.facts import Facts
from nodeagent.steps.step import Step

# The first is what today's kernels read, the second what 5.15 read; later words win over the
# firmware's (raspberrypi/linux issue 6980).
WANTED = ("cgroup_enable=memory", "cgroup_memory=1")
OFF = ("cgroup_disable=memory", "cgroup_memory=0")

# Bytes that the firmware puts before the file's line, where no running kernel tells: Raspberry Pi 4
# and 5 were seen with some 300.
FIRMWARE = 512


@dataclass(frozen=True)
class Cgroup(Step):
    """Whether it took is read from the kernel alone, never from the file."""

    name = "cgroup"
    title = "Enable the memory cgroup"
    why = "The kubelet limits pods with it, and kubeadm refuses to start without."
    on_image = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On the running system, and on an image (there: the file). Raises Blocked."""
        if facts.live and facts.controllers is None:
            raise Blocked(
                "This system runs with cgroup version 1, which Kubernetes no longer supports.",
                "Remove systemd.unified_cgroup_hierarchy=0 from the kernel command line, or use"
                " a newer system.",
            )
        on = facts.live and "memory" in (facts.controllers or ())
        try:
            files = bootfiles.find(facts, WANTED)
        except LookupError as error:
            if on:
                return  # another kind of board, where it is on by itself
            raise Blocked(
                f"The memory cgroup cannot be turned on in the kernel command line: {error}.",
                "Check that the boot partition is mounted and its config.txt is right; on another"
                f" kind of board add {' '.join(WANTED)} to the kernel command line.",
            ) from error
        if not on:
            if facts.live:
                check_disk(facts, files.cmdline)
            yield from _edited(facts, files.cmdline, backup=True)
        if not on or WANTED[0].encode() in cmdline.words(facts.read(files.cmdline) or b""):
            # An update on trial is promoted with its own copy: without this it would undo it.
            for path in files.others:
                yield from _edited(facts, path, backup=not facts.live)
            yield from _for_the_next_kernel(facts)
        if facts.live and not on:
            yield _reboot(facts, files.cmdline)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return "memory cgroup on"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only the words that this step added."""
        yield from bootundo.undo(facts, WANTED)


def check_disk(facts: Facts, path: str) -> None:
    """Raises Blocked where the firmware surely reads another disk than the one with ``path``."""
    started = device.elsewhere(facts, path)
    if started:
        here = device.disk_of(facts, path)
        raise Blocked(
            f"The board was started from {started}, and {path} is on {here}"
            f" ({device.kind(here)}): what is changed there has no effect.",
            f"Take {started} out, or let the board start from {here} first: `sudo rpi-eeprom-config"
            " --edit`, BOOT_ORDER. Then reboot.",
        )


def _edited(facts: Facts, path: str, backup: bool) -> Iterator[Action]:
    data = facts.read(path) or b""
    try:
        wanted = cmdline.add(data, WANTED, OFF, bootfiles.was_read(facts, path, WANTED))
    except ValueError as error:
        backup_too = (
            f"{path}{bootfiles.BACKUP} or " if facts.exists(path + bootfiles.BACKUP) else ""
        )
        raise Blocked(
            f"{path} {error}; it is left as it is.",
            f"Compare it with {backup_too}the one of a fresh card, and put it right, but keep its"
            " root=, which the first boot may have changed.",
        ) from error
    _check_room(facts, path, data, wanted)
    if data.rstrip() == wanted.rstrip():
        return  # a last newline alone is no reason to touch a boot file
    mount = mounts.of(facts, path)
    if mount and "ro" in mount.options:
        raise Blocked(
            f"{mount.point} is mounted read-only, so {path} cannot be changed.",
            f"Run `mount -o remount,rw {mount.point}`. If the kernel made it read-only after errors"
            " (see `dmesg`), unmount it and repair it with fsck first.",
        )
    if backup and not facts.exists(path + bootfiles.BACKUP):
        yield Write(path + bootfiles.BACKUP, data)
    yield Write(path, wanted)


def _for_the_next_kernel(facts: Facts) -> Iterator[Action]:
    """Where the line is written anew with each kernel, see ``bootfiles.REWRITER``."""
    if bootfiles.EXTRA.encode() not in (facts.read(bootfiles.REWRITER) or b""):
        return
    data = facts.read(bootfiles.EXTRA) or b""
    if data.lstrip().startswith(b"#"):
        return  # it puts comments on the line too, so somebody has to put that right first
    try:
        wanted = (
            cmdline.add(data, WANTED, OFF) if data.strip() else " ".join(WANTED).encode() + b"\n"
        )
    except ValueError:
        return
    if wanted.rstrip() != data.rstrip():
        yield Write(bootfiles.EXTRA, wanted)


def _check_room(facts: Facts, path: str, data: bytes, wanted: bytes) -> None:
    """Raises Blocked where the kernel would cut the line off."""
    line = len(wanted.split(b"\n")[0])
    running = facts.read(paths.CMDLINE) if facts.live else None
    before = FIRMWARE
    if running is not None:
        mine = b" ".join(cmdline.words(data))
        before = max(len(running.rstrip()) - len(mine), 0)
    if before + line >= cmdline.LIMIT:
        raise Blocked(
            f"{path} has no room for {' '.join(WANTED)}: the kernel reads"
            f" {cmdline.LIMIT - 1} bytes at most, the firmware's own included.",
            f"Remove what is not needed from {path}.",
        )


def _reboot(facts: Facts, path: str) -> Reboot:
    verdict = f"The memory cgroup was asked for in {path}, the board was rebooted, and it is"
    if WANTED[0].encode() in cmdline.words(facts.read(paths.CMDLINE) or b""):
        return Reboot(
            "cgroup",
            "the memory cgroup is turned on at boot",
            f"{verdict} still off although the kernel was told: this kernel does not know how.",
            "Update the kernel with `apt-get update && apt-get full-upgrade`, then reboot.",
        )
    return Reboot(
        "cgroup",
        "the memory cgroup is turned on at boot",
        f"{verdict} still off: the kernel was started without what the file says.",
        "Reboot once by hand, in case something rewrote the file. If that does not help, the board"
        f" starts from another disk{_in_brackets(device.others(facts, path))}: take that out, or"
        " change BOOT_ORDER with `sudo rpi-eeprom-config --edit`. Or the firmware reads another"
        " file; see os_prefix and cmdline in config.txt.",
    )


def _in_brackets(disks: list[str]) -> str:
    return f" than the one with the file (here are {', '.join(disks)} too)" if disks else ""
