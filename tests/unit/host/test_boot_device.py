"""Which disk the firmware read, and which ones are there."""

from __future__ import annotations

from pathlib import Path

from nodeagent.config.settings import Settings
from nodeagent.host.actions import Reboot
from nodeagent.host.boot import device
from nodeagent.host.facts import Facts
from nodeagent.steps.cgroup import Cgroup
from tests.support.machine import Machine, put

FILE = "/boot/firmware/cmdline.txt"
MOUNTS = "/dev/nvme0n1p2 / ext4 rw 0 0\n/dev/nvme0n1p1 /boot/firmware vfat rw 0 0\n"


def test_a_mode_that_is_no_disk_or_odd_says_nothing(tmp_path: Path) -> None:
    put(tmp_path, {"/proc/mounts": MOUNTS})
    for odd in (b"", b"\0\0\0", b"\0\0\0\2", b"\xff" * 4, b"\0" * 5):
        put(tmp_path, {device.MODE: odd})
        assert device.elsewhere(Facts(Machine(tmp_path)), FILE) == ""
    put(tmp_path, {device.MODE: b"\0\0\0\1", "/proc/mounts": "/dev/root / ext4 rw 0 0\n"})
    assert device.elsewhere(Facts(Machine(tmp_path)), FILE) == "", "which disk is not seen"


def test_after_a_reboot_in_vain_the_other_disks_are_named(tmp_path: Path) -> None:
    put(tmp_path, {
        "/proc/mounts": MOUNTS, "/sys/fs/cgroup/cgroup.controllers": "cpu io\n",
        "/boot/firmware/config.txt": "", FILE: "root=x rootwait cgroup_enable=memory\n",
        "/proc/cmdline": "root=x rootwait\n",
        **dict.fromkeys((f"/sys/class/block/{name}/dev" for name in (
            "nvme0n1", "nvme0n1p1", "mmcblk0", "mmcblk0p1", "mmcblk0boot0", "sda", "zram0")), ""),
    })  # fmt: skip
    reboot = list(Cgroup().plan(Facts(Machine(tmp_path)), Settings()))[-1]
    assert isinstance(reboot, Reboot)
    assert "(here are mmcblk0 (the SD card), sda (a USB disk) too)" in reboot.remedy
