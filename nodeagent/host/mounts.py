"""On which file system a path really lies, and whether that keeps what is written to it.

A root file system that forgets looks like any other until the power goes: raspi-config's and
Ubuntu's overlayroot, ``systemd.volatile=``, live systems (overlay over a tmpfs), folders on zram.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.errors import Blocked
from nodeagent.host.facts import Facts

IN_MEMORY = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs"})
MEMORY_DISKS = re.compile(r"/dev/(zram|ram)[0-9]+.*")
OVERLAYS = frozenset({"overlay", "overlayfs", "aufs"})


@dataclass(frozen=True)
class Mount:
    """One line of /proc/mounts (proc_pid_mounts(5), fstab(5))."""

    source: str
    point: str
    kind: str
    options: tuple[str, ...]

    def option(self, name: str) -> str:
        """The value of an option such as ``upperdir=``; empty where it has none."""
        begin = f"{name}="
        return next((one.removeprefix(begin) for one in self.options if one.startswith(begin)), "")

    def __str__(self) -> str:
        return f"{self.point} ({self.kind})"


def table(facts: Facts) -> list[Mount]:
    """All mounts, in the kernel's order; empty where they cannot be read."""
    found = []
    for line in (facts.text(paths.MOUNTS) or "").splitlines():
        words = [_unescaped(word) for word in line.split()]
        if len(words) >= 4:
            found.append(Mount(words[0], words[1], words[2], tuple(words[3].split(","))))
    return found


def _unescaped(word: str) -> str:
    """Blanks and backslashes stand there in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), word)


def of(facts: Facts, path: str) -> Mount | None:
    """The mount that holds ``path``, which need not exist yet; links on the way are followed. Of
    several on one point the last counts."""
    outer = facts.host.path(path)
    real = "/" + str(outer.relative_to(facts.host.root)).removeprefix(".")
    return _holding(table(facts), real)


def _holding(mounts: list[Mount], path: str) -> Mount | None:
    best: Mount | None = None
    for one in mounts:
        point = one.point.rstrip("/")
        holds = path == point or path.startswith(f"{point}/")
        if holds and (best is None or len(point) >= len(best.point.rstrip("/"))):
            best = one
    return best


def check_lasting(facts: Facts, path: str) -> None:
    """Raises Blocked where what is written to ``path`` would be gone after a reboot, or cannot be
    written at all. Where the mounts cannot be read, nothing is said."""
    mount = of(facts, path)
    if mount is None:
        return
    if _is_read_only(mount):
        raise Blocked(
            f"Nothing can be kept in {path}: {mount} is mounted read-only.",
            "If the kernel made it so after errors (see `dmesg`), repair it with fsck or replace"
            " the card. Otherwise take `ro` out of /etc/fstab and of the kernel command line, then"
            " reboot.",
        )
    why = _forgets(table(facts), mount)
    if not why:
        return
    remedy = (
        "Turn the overlay file system off with `sudo raspi-config` (Performance Options), or take"
        " overlayroot= or systemd.volatile= out of the kernel command line or"
        " /etc/overlayroot.conf; then reboot."
        if mount.kind in OVERLAYS or mount.point == "/"
        else f"Take {mount.point} out of /etc/fstab, or mount a disk there, then reboot."
    )
    raise Blocked(
        f"{mount} forgets everything at the next boot, since {why}; {path} lies on it.", remedy
    )


def _is_read_only(mount: Mount) -> bool:
    no_upper = mount.kind in OVERLAYS - {"aufs"} and any("lowerdir" in o for o in mount.options)
    return "ro" in mount.options or (no_upper and not mount.option("upperdir"))


def _forgets(mounts: list[Mount], mount: Mount, depth: int = 4) -> str:
    """Why, as a part of a sentence; empty where it keeps what is written."""
    if mount.kind in IN_MEMORY or MEMORY_DISKS.fullmatch(mount.source):
        return "it is in memory"
    if mount.kind not in OVERLAYS:
        return ""
    if "volatile" in mount.options:  # kernel docs, overlayfs, "Volatile mount"
        return "it is mounted as volatile"
    upper = mount.option("upperdir")
    others = [one for one in mounts if one is not mount]
    below = _holding(others, upper) if upper else None
    # An overlay made before the root file system was there names a folder that nobody sees now.
    covered = below is not None and below.point == mount.point
    if below is None or covered or not depth:
        return "where it keeps its changes cannot be seen"
    return "its changes are kept in memory" if _forgets(others, below, depth - 1) else ""
