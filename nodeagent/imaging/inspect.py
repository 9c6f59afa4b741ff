"""What keeps a boot partition from being one of a system that nodeagent works on; see also
``system``."""

from __future__ import annotations

import posixpath
import re
import zlib
from collections.abc import Collection

from nodeagent.errors import ImageError
from nodeagent.host.boot.files import KERNELS
from nodeagent.imaging.boot_partition import Boot

# Magic numbers: Documentation/arch/arm64/booting.rst, and the zImage's of 32-bit Arm in
# arch/arm/boot/compressed/head.S.
_MAGIC = {"arm64": (56, b"ARM\x64"), "armhf": (36, b"\x18\x28\x6f\x01")}
_ENOUGH = 64 * 1024  # of a kernel, to unpack its first bytes
BOOKWORM = "2023-10-10"  # the first Raspberry Pi OS with the boot partition at /boot/firmware
OLDEST_UBUNTU = (6, 8)  # Ubuntu 24.04's
KNOWN = (
    "Use an image of Raspberry Pi OS (64-bit, bookworm or newer), Ubuntu 24.04 or newer for"
    " Raspberry Pi, or Debian 12 or newer for Raspberry Pi."
)


def architecture(boot: Boot, names: Collection[str]) -> str | None:
    """``arm64`` or ``armhf``, by the kernels; None where there is none that is known.

    A 32-bit system has a 64-bit kernel too, for boards that want it, but not the other way round.
    """
    found = {_kernel(boot.read(name, _ENOUGH)) for name in names if _is_kernel(name)} - {None}
    return "armhf" if "armhf" in found else next(iter(found), None)


def _is_kernel(name: str) -> bool:
    last = posixpath.basename(name)
    return last in KERNELS or last == "vmlinuz" or last.startswith("vmlinuz-")


def _kernel(head: bytes) -> str | None:
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
        except zlib.error:
            return None
    for arch, (at, magic) in _MAGIC.items():
        if head[at : at + len(magic)] == magic:
            return arch
    return None


def check(boot: Boot, names: Collection[str]) -> str | None:
    """The architecture, where nothing shows that nodeagent cannot work on this system. Raises
    ImageError where something does."""
    _check_kind(names)
    found = architecture(boot, names)
    if found == "armhf":
        raise ImageError(
            "This is a 32-bit system, and Kubernetes needs a 64-bit one.",
            "Use the 64-bit image of the same system.",
        )
    made = date(boot, names)
    if made and made < BOOKWORM:
        raise ImageError(
            f"This Raspberry Pi OS is of {made}, which is too old.",
            "Use one that is based on Debian bookworm or newer.",
        )
    version = _version_inside(boot, names)
    if version and version < OLDEST_UBUNTU and "issue.txt" not in names:
        raise ImageError(
            f"This Ubuntu has Linux {version[0]}.{version[1]}, as releases before 24.04 have.",
            KNOWN,
        )
    return found


def _check_kind(names: Collection[str]) -> None:
    """Raises ImageError for systems that are known not to fit, by what only they have."""
    lines = {"cmdline.txt", "config.txt", "current/cmdline.txt"} & set(names)
    if any(re.match("snaps/|systems/[^/]+/model$", name) for name in names):
        raise ImageError("This is Ubuntu Core, on which no Debian package can be installed.", KNOWN)
    if any(name.startswith("apks/") for name in names):
        raise ImageError(
            "This is Alpine Linux, which has neither systemd nor Debian packages.", KNOWN
        )
    if not lines and "autoboot.txt" in names:
        raise ImageError(
            "This is an image with two boot partitions (autoboot.txt, as in rpi-image-gen's A/B"
            " images), and only images with one can be seeded.",
            f"Build nodeagent into both systems of such an image with its builder. {KNOWN}",
        )
    if "boot.img" in names and "cmdline.txt" not in names:
        raise ImageError(
            "Its boot files are inside boot.img, for secure boot, and cannot be changed there.",
            "Seed the image before it is signed.",
        )
    if not lines:
        raise ImageError(
            "There is neither cmdline.txt nor config.txt on it: this is no boot partition of a"
            " Raspberry Pi.",
            "Give an image of Raspberry Pi OS (64-bit) or Ubuntu, or the folder where the first"
            " partition of its card is mounted.",
        )


def _version_inside(boot: Boot, names: Collection[str]) -> tuple[int, int] | None:
    """The version in Ubuntu's kernel, by its banner (init/version-timestamp.c)."""
    kernel = next((name for name in ("current/vmlinuz", "vmlinuz") if name in names), None)
    if kernel is None:
        return None
    data = boot.read(kernel)
    if data.startswith(b"\x1f\x8b"):
        try:
            data = zlib.decompressobj(wbits=31).decompress(data)
        except zlib.error:
            return None
    found = re.search(rb"Linux version (\d+)\.(\d+)", data)
    return (int(found[1]), int(found[2])) if found else None


def date(boot: Boot, names: Collection[str]) -> str | None:
    """When a Raspberry Pi OS was made, as pi-gen writes it into issue.txt: 2026-06-18."""
    found = (
        re.search(rb"\b20\d\d-\d\d-\d\d\b", boot.read("issue.txt"))
        if ("issue.txt" in names)
        else None
    )
    return found[0].decode() if found else None
