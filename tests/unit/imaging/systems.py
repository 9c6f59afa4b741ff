"""A table of systems, and of what people and programs did to their boot partitions; the page
docs/reference/systems.md is made of it."""

from __future__ import annotations

import gzip

from nodeagent.imaging import system
from tests.unit.imaging import layouts, pi_os
from tests.unit.imaging.layouts import (
    BOOKWORM,
    KERNEL,
    KERNEL_32,
    NOBLE,
    RESOLUTE,
    TRIXIE,
    TRIXIE_IMAGER,
)

Layout = dict[str, bytes]
CLOUD, LINE = (system.CLOUD_INIT,), (system.SYSTEMD,)
BOTH = (*CLOUD, *LINE)


def but(layout: Layout, **changes: bytes | None) -> Layout:
    """A layout with files changed; ``cmdline``, ``user`` and the like are short for their names."""
    short = {"cmdline": "cmdline.txt", "config": "config.txt", "issue": "issue.txt",
             "user": "user-data", "meta": "meta-data"}  # fmt: skip
    named = {short.get(name, name): data for name, data in changes.items()}
    merged = {**layout, **named}
    return {name: data for name, data in merged.items() if data is not None}


def plus(layout: Layout, words: bytes, where: str = "cmdline.txt") -> Layout:
    return {**layout, where: layout[where].rstrip() + b" " + words + b"\n"}


def booted(layout: Layout) -> Layout:
    """After its first boot."""
    return but(layout, cmdline=pi_os.first_boot(layout["cmdline.txt"]))


def kernel(version: bytes) -> bytes:
    return gzip.compress(KERNEL + b"Linux version " + version + b"-raspi (builder)\n", mtime=0)


BOOTED, BOOTED_IMAGER = booted(TRIXIE), booted(TRIXIE_IMAGER)
PLAIN = {"config.txt": b"arm_64bit=1\nauto_initramfs=1\n", "kernel8.img": KERNEL,
         "cmdline.txt": b"console=tty1 root=PARTUUID=1234abcd-02 rootwait\n"}  # fmt: skip
BULLSEYE = {**PLAIN, "issue.txt": b"Raspberry Pi reference 2024-10-22\nGenerated using pi-gen\n"}
DEBIAN = {
    "cmdline.txt": b"console=tty0 root=LABEL=RASPIROOT rw fsck.repair=yes rootwait \n",
    "config.txt": b"arm_64bit=1\nupstream_kernel=1\nkernel=vmlinuz-6.12.9+deb13-arm64\n",
    "sysconf.txt": b"#hostname=\n", "vmlinuz-6.12.9+deb13-arm64": KERNEL,
    "initrd.img-6.12.9+deb13-arm64": b"not looked into",
}  # fmt: skip
OLD_DEBIAN = {name.replace("6.12.9+deb13", "5.10.0-21"): data for name, data in DEBIAN.items()}
CORE = {**PLAIN, "snaps/core24_7.snap": b"x", "systems/20260101/model": b"type: model\n"}
TWO_BOOTS = {"autoboot.txt": b"[all]\ntryboot_a_b=1\nboot_partition=2\n"}
HTTP, ISO = b"ds=nocloud;s=http://192.0.2.9/", b"ds=nocloud-net;s=https://example.org/"
HERE = b"ds=nocloud;s=file:///boot/firmware"

# What it is, and the ways that are taken.
WAYS: dict[str, tuple[Layout, tuple[str, ...]]] = {
    "bookworm": (BOOKWORM, LINE),
    "bookworm, customised by Imager": (layouts.BOOKWORM_IMAGER, LINE),
    "bookworm, after its first boot": (booted(BOOKWORM), LINE),
    "bookworm, built today": (
        but(BOOKWORM, issue=b"My Pi 2026-11-01\nGenerated using pi-gen\n"),
        LINE,
    ),
    "trixie": (TRIXIE, CLOUD),
    "trixie, customised by Imager": (TRIXIE_IMAGER, CLOUD),
    "trixie, after its first boot": (BOOTED, CLOUD),
    "trixie, own user-data and meta-data": (
        but(TRIXIE, user=b"#cloud-config\n", meta=b"instance-id: mine\n"),
        CLOUD,
    ),
    "trixie without cloud-init": (but(TRIXIE, user=None, meta=None), LINE),
    "Ubuntu 24.04": (NOBLE, CLOUD),
    "Ubuntu 24.04, its kernel": (but(NOBLE, vmlinuz=kernel(b"6.8.0-1001")), CLOUD),
    "Ubuntu 26.04": (RESOLUTE, CLOUD),
    "Ubuntu desktop": (plus(but(NOBLE, user=None, meta=None), b"quiet splash"), LINE),
    "Ubuntu desktop with user-data": (plus(NOBLE, b"quiet splash"), BOTH),
    "Debian": (DEBIAN, LINE),
    "Debian with user-data": ({**DEBIAN, "user-data": b"#cloud-config\n", "meta-data": b""}, LINE),
    # user-data is no sign of cloud-init
    "bookworm with user-data": (
        but(BOOKWORM, user=b"#cloud-config\n", meta=b"instance-id: a\n"),
        LINE,
    ),
    "bookworm with user-data, after its first boot": (
        booted(but(BOOKWORM, user=b"#cloud-config\n", meta=b"instance-id: a\n")),
        LINE,
    ),
    "bookworm with user-data, built today": (
        but(
            BOOKWORM,
            user=b"#cloud-config\n",
            meta=b"",
            issue=b"Raspberry Pi reference 2026-11-01\n",
        ),
        LINE,
    ),
    "first trixie with user-data": (
        but(TRIXIE, issue=b"Raspberry Pi reference 2025-10-01\n"),
        LINE,
    ),
    "booted, and nothing tells whether cloud-init is there": (
        but(BOOTED, user=b"#cloud-config\n", meta=b"instance-id: mine\n"),
        BOTH,
    ),
    # cloud-init is off, or takes its data from elsewhere
    "cloud-init=disabled": (plus(TRIXIE, b"cloud-init=disabled"), LINE),
    "cloud-init=disabled on Ubuntu's A/B boot": (
        plus(RESOLUTE, b"cloud-init=disabled", "current/cmdline.txt"),
        LINE,
    ),
    "masked": (plus(NOBLE, b"systemd.mask=cloud-init.service"), LINE),
    "a seed from the network": (plus(TRIXIE, HTTP), LINE),
    "a seed from the network, quoted": (plus(TRIXIE, b'"' + HTTP + b'"'), LINE),
    "a seed from the network, old name": (plus(TRIXIE, ISO), LINE),
    "another source of data": (plus(NOBLE, b"ds=openstack"), LINE),
    "another source of data, old name": (plus(NOBLE, b"ci.ds=ec2"), LINE),
    "a seed from this partition": (plus(TRIXIE, HERE), CLOUD),
    "a seed named in meta-data": (but(TRIXIE, meta=b"seedfrom: http://192.0.2.9/\n"), LINE),
    "NoCloud turned off in meta-data": (but(TRIXIE, meta=b"dsmode: disabled\n"), LINE),
    "vendor data turned off": (
        but(TRIXIE, user=b"#cloud-config\nvendor_data:\n  enabled: false\n"),
        LINE,
    ),
    "vendor data turned off, in braces": (
        but(NOBLE, user=b'#cloud-config\n{"vendor_data": {"enabled": false}}\n'),
        LINE,
    ),
    "vendor data, only in a comment": (
        but(NOBLE, user=b"#cloud-config\n# vendor_data: no\n"),
        CLOUD,
    ),
    "the cache is kept": (but(NOBLE, user=b"#cloud-config\nmanual_cache_clean: true\n"), LINE),
    "user-data that cannot be looked into": (
        but(NOBLE, user=gzip.compress(b"#cloud-config\n")),
        BOTH,
    ),
    "user-data from elsewhere": (but(NOBLE, user=b"#include\nhttps://example.org/u\n"), BOTH),
    # an instance that has booted reads nothing new
    "trixie, customised by Imager, then booted": (BOOTED_IMAGER, BOTH),
    "Ubuntu 24.04, customised by Imager": (plus(NOBLE, b"ds=nocloud;i=rpi-imager-1"), BOTH),
    "instance-id in full": (plus(NOBLE, b"ds=nocloud;h=a;instance-id=b"), BOTH),
}

REFUSED: dict[str, tuple[Layout, str]] = {
    "bullseye": (plus(BULLSEYE, b"init=/usr/lib/raspi-config/init_resize.sh"), "bullseye"),
    "bullseye, built today": (
        but(
            plus(BULLSEYE, b"init=/usr/lib/raspi-config/init_resize.sh"),
            issue=b"Raspberry Pi reference 2026-11-01\n",
        ),
        "bullseye",
    ),
    "bullseye, after its first boot": (but(BULLSEYE, config=b"arm_64bit=1\n"), "bullseye"),
    "Ubuntu Core": (CORE, "Ubuntu Core"),
    "Ubuntu Core, installed": (but(CORE, **{"snaps/core24_7.snap": None}), "Ubuntu Core"),
    "Ubuntu 22.04": (but(NOBLE, vmlinuz=kernel(b"5.15.0-1061")), "before 24.04"),
    "Debian 11": (OLD_DEBIAN, "older than bookworm"),
    "a 32-bit Debian": (
        {name: KERNEL_32 if "vmlinuz" in name else data for name, data in DEBIAN.items()},
        "32-bit",
    ),
    "Alpine": (
        {**PLAIN, "apks/aarch64/APKINDEX.tar.gz": b"x", "boot/vmlinuz-rpi": KERNEL},
        "Alpine",
    ),
    "Rocky": (PLAIN, "no sign"),
    "Alma, with user-data": (
        {**PLAIN, "user-data": b"#cloud-config\n", "meta-data": b""},
        "no sign",
    ),
    "Fedora": ({**PLAIN, "EFI/fedora/shimaa64.efi": b"x"}, "no sign"),
    "LibreELEC": ({**PLAIN, "KERNEL": KERNEL, "SYSTEM": b"hsqs"}, "no sign"),
    "an image with two boot partitions": (TWO_BOOTS, "autoboot.txt"),
    "a signed image": ({"config.txt": b"", "boot.img": b"x", "boot.sig": b"x"}, "boot.img"),
    "a first line that is a comment": (
        but(TRIXIE, cmdline=b"# see the wiki\n" + TRIXIE["cmdline.txt"]),
        "a comment",
    ),
    "a first line without root=": (
        but(TRIXIE, cmdline=b"quiet\n" + TRIXIE["cmdline.txt"]),
        "no root=",
    ),
    "the line of the A/B boot without root=": (
        but(RESOLUTE, **{"current/cmdline.txt": b"console=tty1\n"}),
        "no root=",
    ),
    "an overlay root": (plus(TRIXIE, b"boot=overlay"), "forget"),
    "an overlay root of Ubuntu's": (plus(NOBLE, b"overlayroot=tmpfs:recurse=0"), "forget"),
    "a volatile root": (plus(TRIXIE, b"systemd.volatile=overlay"), "forget"),
    "a shell in the place of systemd": (plus(TRIXIE, b"init=/bin/bash"), "something else"),
    "a rescue boot": (plus(BOOKWORM, b"single"), "something else"),
    "a rescue boot by its target": (plus(NOBLE, b"systemd.unit=rescue.target"), "something else"),
    "boards with lines of their own": (
        but(
            BOOKWORM,
            config=BOOKWORM["config.txt"] + b"[pi5]\ncmdline=five.txt\n",
            **{"five.txt": BOOKWORM["cmdline.txt"]},
        ),
        "five.txt",
    ),
}
