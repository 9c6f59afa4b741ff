"""Step: the memory cgroup is on. Raspberry Pi kernels have it off by default (the firmware puts
``cgroup_disable=memory`` first on the command line), and kubeadm refuses to start without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config import Settings
from nodeagent.errors import Blocked
from nodeagent.host import bootfiles
from nodeagent.host.actions import Action, Reboot, Write
from nodeagent.host.facts import Facts

# The first is what today's kernels read, the second what 5.15 read; later words win over the
# firmware's (raspberrypi/linux issue 6980).
WANTED = ("cgroup_enable=memory", "cgroup_memory=1")
OFF = ("cgroup_disable=memory", "cgroup_memory=0")


@dataclass(frozen=True)
class Cgroup:
    """Whether it took is read from the kernel alone, never from the file."""

    name: str = "cgroup"
    title: str = "Enable the memory cgroup"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """On the running system, and on an image (there: the file). Raises Blocked."""
        files = bootfiles.find(facts)
        if facts.live and facts.controllers is None:
            raise Blocked(
                "This system runs with cgroup version 1, which Kubernetes no longer supports.",
                "Remove systemd.unified_cgroup_hierarchy=0 from the kernel command line, or use"
                " a newer system.",
            )
        on = facts.live and "memory" in (facts.controllers or ())
        if files is None:
            if not on:
                raise Blocked(
                    f"{'The memory cgroup is off, and no' if facts.live else 'No'} cmdline.txt"
                    " was found below /boot/firmware or /boot.",
                    "Check that the boot partition is mounted; on another kind of board add"
                    f" {' '.join(WANTED)} to the kernel command line.",
                )
            return
        if not on:
            yield from _edited(facts, files.cmdline, backup=True)
        if not on or WANTED[0] in (facts.text(files.cmdline) or "").split():
            # An update on trial is promoted with its own copy: without this it would undo it.
            for path in files.pending:
                yield from _edited(facts, path, backup=False)
        if facts.live and not on:
            yield _reboot(facts, files.cmdline)


def _edited(facts: Facts, path: str, backup: bool) -> Iterator[Action]:
    data = facts.read(path) or b""
    try:
        wanted = bootfiles.add_arguments(data, WANTED, OFF)
    except ValueError as error:
        raise Blocked(
            f"{path} {error}; it is left as it is.",
            f"Compare it with {path}{bootfiles.BACKUP} or a fresh card, and put it right.",
        ) from error
    if data.rstrip() == wanted.rstrip():
        return  # a last newline alone is no reason to touch a boot file
    before = facts.read("/proc/cmdline") if facts.live else b""
    firmware = max(len(before or b"") - len(data), 0)  # what the firmware puts before the file's
    if firmware + len(wanted.split(b"\n")[0]) >= bootfiles.LIMIT:
        raise Blocked(
            f"{path} has no room for {' '.join(WANTED)}: the kernel reads"
            f" {bootfiles.LIMIT - 1} bytes at most.",
            f"Remove what is not needed from {path}.",
        )
    if backup and not facts.exists(path + bootfiles.BACKUP):
        yield Write(path + bootfiles.BACKUP, data)
    yield Write(path, wanted)


def _reboot(facts: Facts, path: str) -> Reboot:
    verdict = f"The memory cgroup was asked for in {path}, the board was rebooted, and it is"
    if WANTED[0] in (facts.text("/proc/cmdline") or "").split():
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
        "The firmware reads another file; see os_prefix and cmdline in config.txt.",
    )
