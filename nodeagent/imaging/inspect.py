"""What kind of system a boot partition belongs to, as far as its files tell."""

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


def architecture(boot: Boot, names: Collection[str]) -> str | None:
    """``arm64`` or ``armhf``, by the kernels; None where there is none that is known.

    A 32-bit system has a 64-bit kernel too, for boards that want it, but not the other way round.
    """
    known = {*KERNELS, "vmlinuz"}
    kernels = [name for name in names if posixpath.basename(name) in known]
    found = {_kernel(boot.read(name, _ENOUGH)) for name in kernels} - {None}
    return "armhf" if "armhf" in found else next(iter(found), None)


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


def has_cloud_init(names: Collection[str]) -> bool:
    """Raspberry Pi OS since late 2025 and Ubuntu bring both files; NoCloud wants both."""
    return {"user-data", "meta-data"} <= set(names)


def check(boot: Boot, names: Collection[str]) -> str | None:
    """The architecture of a system that nodeagent works on. Raises ImageError for another."""
    if not {"cmdline.txt", "config.txt", "current/cmdline.txt"} & set(names):
        raise ImageError(
            "There is neither cmdline.txt nor config.txt on it: this is no boot partition of a"
            " Raspberry Pi.",
            "Give an image of Raspberry Pi OS (64-bit) or Ubuntu, or the folder where the first"
            " partition of its card is mounted.",
        )
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
    return found


def date(boot: Boot, names: Collection[str]) -> str | None:
    """When a Raspberry Pi OS was made, as pi-gen writes it into issue.txt: 2026-06-18."""
    found = (
        re.search(rb"\b20\d\d-\d\d-\d\d\b", boot.read("issue.txt"))
        if ("issue.txt" in names)
        else None
    )
    return found[0].decode() if found else None
