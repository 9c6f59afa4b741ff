"""What a process opens by name, and whether another user might have put something there.

``strace`` tells of each call that names a file; ``astray`` judges. A name is led astray where any
folder on its way, links followed, can be written or replaced by another user than root.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.support.tools import tool

# What makes, changes or uses what lies under a name; of the others (stat(2), access(2)) nothing is
# read and nothing changes.
CALLS = (
    "open,openat,openat2,creat,execve,execveat,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
    "mkdirat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmodat,chown,lchown,fchownat,truncate,"
    "mknod,mknodat,utimensat,setxattr,lsetxattr,mount,umount2,connect,bind"
)
# At most 40 links, as ELOOP in path_resolution(7).
MAX_LINKS = 40
_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ )?(\w+)\((.*)$")
_NAME = re.compile(r'(?:(AT_FDCWD|\d+)<([^>]*)>, )?(sun_path=)?"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Open:
    """One name in one call. ``base``: the open folder that it is looked up in, None for the current
    one or for no folder."""

    call: str
    path: str
    base: str | None
    flags: frozenset[str]

    @property
    def name_by_name(self) -> bool:
        """A single name in a folder that is open already, no link followed and no pipe waited
        for, as ``host/untrusted.py`` does it."""
        if self.base is None or "/" in self.path or self.path in (".", ".."):
            return False
        if self.call == "unlinkat":
            return True
        careful = {"O_NONBLOCK", "O_DIRECTORY"} & self.flags
        return self.call == "openat" and "O_NOFOLLOW" in self.flags and bool(careful)


def tracing(folder: Path) -> tuple[str, ...]:
    """The beginning of a command line: what follows is traced into files in ``folder``, one a
    thread."""
    folder.mkdir(parents=True, exist_ok=True)
    return (
        tool("strace", "Install it with: apt-get install strace"), "-ff", "-qq", "-y",
        "--seccomp-bpf", "-s", "4096", "-e", f"trace={CALLS}", "-e", "signal=none",
        "-o", str(folder / "trace"),
    )  # fmt: skip


def opens(folder: Path) -> set[Open]:
    """All that was traced there."""
    lines = {line for path in folder.glob("trace.*") for line in path.read_text().splitlines()}
    return {one for line in lines for one in parse(line)}


def parse(line: str) -> Iterator[Open]:
    """The names in one line of strace(1)."""
    found = _CALL.match(line)
    if found is None:
        return
    call, rest = found.groups()
    if call == "execve":
        rest = rest.partition(", [")[0]
    flags = frozenset(re.findall(r"\b(?:O|AT)_[A-Z]+\b", re.sub(r'"[^"]*"|<[^>]*>', "", rest)))
    for base, folder, socket_, text in _NAME.findall(rest):
        if call in ("connect", "bind") and not socket_:
            continue
        path = text.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
        if path and base == "AT_FDCWD" and not path.startswith("/"):
            path = f"{folder}/{path}"
        if path:
            yield Open(call, path, folder if base not in ("", "AT_FDCWD") else None, flags)


def others_folders(root: Path) -> set[str]:
    """Folders below ``root`` that another user than root can write."""
    return {place for place, _, _ in os.walk(root) if _can_write(Path(place))}


def _can_write(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    group = found.st_gid != 0 and found.st_mode & stat.S_IWGRP
    return bool(found.st_uid != 0 or group or found.st_mode & stat.S_IWOTH)


def astray(one: Open, others: set[str]) -> str:
    """The folder, or the link, through which another user might lead the call, empty where there is
    none. ``others``: folders that were such ones, whether they are there still or not."""
    if one.name_by_name:
        return ""
    new = {"O_CREAT", "O_EXCL"} <= one.flags  # it follows no link and takes nothing that is there
    start = one.path if one.path.startswith("/") else f"{one.base or '/'}/{one.path}"
    todo, done, links = list(PurePosixPath(start).parts[1:]), Path("/"), 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = done.parent
            continue
        here = done / part
        theirs = str(done) in others or _can_write(done)
        # What is root's in a folder such as /tmp nobody else replaces (S_ISVTX, inode(7)).
        if theirs and not _stays(done, here, last=not todo) and not (new and not todo):
            return str(done)
        try:
            link = os.readlink(here)
        except OSError:
            done = here
            continue
        if here.lstat().st_uid != 0:
            return str(here)
        links += 1
        if links > MAX_LINKS:
            return str(here)
        target = PurePosixPath(link)
        done = Path("/") if target.is_absolute() else done
        todo = [name for name in target.parts if name != "/"] + todo
    return ""


def _stays(folder: Path, here: Path, *, last: bool) -> bool:
    try:
        sticky = folder.lstat().st_mode & stat.S_ISVTX and folder.lstat().st_uid == 0
        return bool(sticky and not last and here.lstat().st_uid == 0)
    except OSError:
        return False
