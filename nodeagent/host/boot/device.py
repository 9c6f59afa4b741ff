"""From which disk the firmware started this board, and on which disk its boot files lie here.

With a cloned card still in its slot the two differ: the firmware reads one disk's cmdline.txt, and
/boot/firmware is the other's.
"""

from __future__ import annotations

import re
import struct

from nodeagent.host import mounts
from nodeagent.host.facts import Facts

# raspberrypi.com/documentation, "BOOT_ORDER"; "configuration properties": boot-mode in the device
# tree of Raspberry Pi 4 and later, a big-endian word. Other modes are no disks.
MODE = "/proc/device-tree/chosen/bootloader/boot-mode"
SD, USB, NVME = "the SD card", "a USB disk", "an NVMe disk"
MODES = {1: SD, 4: USB, 5: USB, 6: NVME}
DISK = re.compile(r"(mmcblk[0-9]+|nvme[0-9]+n[0-9]+|sd[a-z]+)(p?[0-9]+)?")


def started_from(facts: Facts) -> str:
    """Which kind of disk the firmware says; empty where it does not."""
    data = facts.read(MODE) or b""
    return MODES.get(struct.unpack(">I", data)[0], "") if len(data) == 4 else ""


def kind(disk: str) -> str:
    """The kind of a disk by the kernel's name for it."""
    return {"m": SD, "n": NVME, "s": USB}[disk[0]]


def disk_of(facts: Facts, path: str) -> str:
    """The disk with this file, such as ``nvme0n1``; empty where that is not seen."""
    mount = mounts.of(facts, path)
    found = DISK.fullmatch(mount.source.removeprefix("/dev/")) if mount else None
    return found[1] if found else ""


def elsewhere(facts: Facts, path: str) -> str:
    """The kind of disk that the board was started from, where that is surely not the one with
    this file; else empty."""
    started, here = started_from(facts), disk_of(facts, path)
    return started if started and here and started != kind(here) else ""


def others(facts: Facts, path: str) -> list[str]:
    """The other disks of this board, such as ``mmcblk0 (the SD card)``."""
    here = disk_of(facts, path)
    names = [name for name in facts.names("/sys/class/block") if name != here]
    found = [match for name in names if (match := DISK.fullmatch(name)) and not match[2]]
    return [f"{match[1]} ({kind(match[1])})" for match in found]
