"""Small images laid out as the real ones are: partition table, names on the boot partition, texts.

What is large on a real card (kernels, overlays) has its name and first bytes only. Sources: pi-gen
(stage1/00-boot-files, stage2/04-cloud-init), canonical/pi-gadget, rpi-imager's
customization_generator.cpp, Ubuntu's "A/B boot on Ubuntu for Raspberry Pi".
"""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
from pathlib import Path
from uuid import UUID

KERNEL = bytes(56) + b"ARM\x64" + bytes(4036)
PACKED = gzip.compress(KERNEL, mtime=0)
KERNEL_32 = bytes(36) + b"\x18\x28\x6f\x01" + bytes(4056)

_PI = {
    "config.txt": b"# For more options see http://rptl.io/configtxt\ndtparam=audio=on\n"
    b"auto_initramfs=1\narm_64bit=1\n\n[cm4]\notg_mode=1\n\n[all]\n",
    "kernel8.img": PACKED,
    "kernel_2712.img": PACKED,
    "initramfs8": b"not looked into",
    "bcm2711-rpi-4-b.dtb": b"\xd0\x0d\xfe\xed",
    "bcm2712-rpi-5-b.dtb": b"\xd0\x0d\xfe\xed",
    "start4.elf": b"\x7fELF",
    "LICENCE.broadcom": b"text\n",
    "overlays/README": b"text\n",
    "overlays/disable-wifi.dtbo": b"\xd0\x0d\xfe\xed",
}
_LINE = b"console=serial0,115200 console=tty1 root=PARTUUID=6e6f6465-02 rootfstype=ext4 "
BOOKWORM = {
    **_PI,
    "cmdline.txt": _LINE + b"fsck.repair=yes rootwait quiet "
    b"init=/usr/lib/raspberrypi-sys-mods/firstboot\n",
    "issue.txt": b"Raspberry Pi reference 2025-05-13\nGenerated using pi-gen, stage2\n",
}
IMAGER_RUN = (
    b" systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot"
    b" systemd.unit=kernel-command-line.target"
)
BOOKWORM_IMAGER = {
    **BOOKWORM,
    "cmdline.txt": BOOKWORM["cmdline.txt"].rstrip() + IMAGER_RUN,
    "firstrun.sh": b"#!/bin/bash\n\nset +e\n\nrm -f /boot/firstrun.sh\n"
    b"sed -i 's| systemd.run.*||g' /boot/cmdline.txt\nexit 0\n",
}
TRIXIE = {
    **_PI,
    "cmdline.txt": _LINE + b"fsck.repair=yes rootwait resize\n",
    "issue.txt": b"Raspberry Pi reference 2026-06-18\nGenerated using pi-gen, stage2\n",
    "user-data": b"#cloud-config\n#hostname: raspberrypi\n",
    "meta-data": b"dsmode: local\ninstance_id: rpios-image\n",
    "network-config": b"network:\n  version: 2\n",
}
IMAGER_USER_DATA = b"""#cloud-config
hostname: kitchen-pi
manage_etc_hosts: true
packages:
- avahi-daemon
apt:
  conf: |
    Acquire {
      Check-Date "false";
    };
user:
  name: anna
ssh_pwauth: true
rpi:
  interfaces:
    serial: true
runcmd:
- [localectl, set-x11-keymap, de]
"""
TRIXIE_IMAGER = {
    **TRIXIE,
    "cmdline.txt": TRIXIE["cmdline.txt"].rstrip() + b" ds=nocloud;i=rpi-imager-1750000000000\n",
    "user-data": IMAGER_USER_DATA,
    "meta-data": b"instance-id: rpi-imager-1750000000000\n",
}
_UBUNTU_SEED = {
    "user-data": b"#cloud-config\n# See cloud-init's documentation\n",
    "meta-data": b"dsmode: local\ninstance_id: cloud-image\n",
    "network-config": b"network:\n  version: 2\n",
    "README": b"text\n",
    "bcm2711-rpi-4-b.dtb": b"\xd0\x0d\xfe\xed",
    "overlays/README": b"text\n",
}
_UBUNTU_LINE = (
    b"console=serial0,115200 multipath=off dwc_otg.lpm_enable=0 console=tty1 root=LABEL=writable"
    b" rootfstype=ext4 "
)
NOBLE = {
    **_UBUNTU_SEED,
    "config.txt": b"[all]\nkernel=vmlinuz\ncmdline=cmdline.txt\n"
    b"initramfs initrd.img followkernel\n\n[pi4]\nmax_framebuffers=2\n\n[all]\narm_64bit=1\n",
    "cmdline.txt": _UBUNTU_LINE + b"rootwait fixrtc\n",
    "vmlinuz": PACKED,
    "initrd.img": b"not looked into",
}
RESOLUTE = {
    **_UBUNTU_SEED,
    "config.txt": b"[all]\nos_prefix=current/\nkernel=vmlinuz\ncmdline=cmdline.txt\n"
    b"initramfs initrd.img followkernel\n\n[tryboot]\nos_prefix=new/\n\n[all]\narm_64bit=1\n",
    "autoboot.txt": b"[all]\ntryboot_a_b=1\n",
    "current/cmdline.txt": _UBUNTU_LINE + b"rootwait fixrtc panic=10\n",
    "current/state": b"good\n",
    "current/vmlinuz": PACKED,
    "current/initrd.img": b"not looked into",
    "current/bcm2711-rpi-4-b.dtb": b"\xd0\x0d\xfe\xed",
    "current/overlays/README": b"text\n",
}
OS_RELEASE = {
    "bookworm": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
    "trixie": b'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n',
    "noble": b'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu\n',
    "resolute": b'PRETTY_NAME="Ubuntu 26.04 LTS"\nID=ubuntu\n',
}
LAYOUTS = {
    "bookworm": BOOKWORM,
    "bookworm-imager": BOOKWORM_IMAGER,
    "trixie": TRIXIE,
    "trixie-imager": TRIXIE_IMAGER,
    "noble": NOBLE,
    "resolute": RESOLUTE,
}

SECTOR = 512
BOOT_START, ROOT_SIZE = 4 * 1024 * 1024, 4 * 1024 * 1024
TOOLS = {**os.environ, "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull}
TOOLS["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def call(*argv: str) -> bytes:
    """Run a tool that must end well."""
    return subprocess.run(argv, env=TOOLS, check=True, capture_output=True).stdout


def folder(layout: dict[str, bytes], where: Path) -> Path:
    """The layout as a mounted card shows it."""
    for name, data in layout.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return where


def image(name: str, where: Path, size: int = 40, gpt: bool = False) -> Path:
    """An image of a layout: ``size`` MiB of FAT32, then a small ext4 with its os-release."""
    path, boot, root = where / f"{name}.img", where / "boot.part", where / "root.part"
    sectors = size * 1024 * 1024 // SECTOR
    call(
        "mformat", "-C", "-i", str(boot), "-F", "-c", "1", "-T", str(sectors), "-v", "BOOTFS", "::"
    )
    files = folder(LAYOUTS[name], where / "files")
    call("mcopy", "-s", "-i", str(boot), *map(str, sorted(files.iterdir())), "::")
    (where / "tree/etc").mkdir(parents=True)
    (where / "tree/etc/os-release").write_bytes(OS_RELEASE[name.split("-")[0]])
    call("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(where / "tree"), str(root),
         f"{ROOT_SIZE // 1024}k")  # fmt: skip
    parts = [
        (0x0C, BOOT_START, sectors),
        (0x83, BOOT_START + sectors * SECTOR, ROOT_SIZE // SECTOR),
    ]
    with path.open("wb") as file:
        file.write(table(parts, gpt))
        for part, source in zip(parts, (boot, root), strict=True):
            file.seek(part[1])
            file.write(source.read_bytes())
        file.truncate(parts[1][1] + ROOT_SIZE + (SECTOR * 34 if gpt else 0))
    return path


def table(parts: list[tuple[int, int, int]], gpt: bool) -> bytes:
    """A partition table: type, offset in bytes and length in sectors of each."""
    return _gpt(parts) if gpt else _mbr(parts)


def _mbr(parts: list[tuple[int, int, int]]) -> bytes:
    table = b"".join(
        bytes(4) + bytes([kind]) + bytes(3) + struct.pack("<II", start // SECTOR, sectors)
        for kind, start, sectors in parts
    )
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def _gpt(parts: list[tuple[int, int, int]]) -> bytes:
    kinds = {0x0C: "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
             0x83: "0fc63daf-8483-4772-8e79-3d69d8477de4"}  # fmt: skip
    header = b"EFI PART" + bytes(64) + struct.pack("<QII", 2, 128, 128)
    table = b"".join(
        UUID(kinds[kind]).bytes_le + UUID(int=start).bytes_le
        + struct.pack("<QQ", start // SECTOR, start // SECTOR + sectors - 1) + bytes(80)
        for kind, start, sectors in parts
    )  # fmt: skip
    return _mbr([(0xEE, SECTOR, 0xFFFFFFFF)]) + header.ljust(SECTOR, b"\0") + table


def files(image: Path) -> dict[str, bytes]:
    """Every file of an image's boot partition."""
    drive = f"{image}@@{BOOT_START}"
    listed = call("mdir", "-/", "-a", "-b", "-i", drive, "::").decode().splitlines()
    return {
        name.removeprefix("::/"): call(
            "mtype", "-i", drive, name.replace("[", "\\[").replace("]", "\\]")
        )
        for name in listed
        if not name.endswith("/")
    }
