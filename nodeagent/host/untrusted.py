"""What lies in a folder that another user may write: read and removed without being led astray.

Whoever may write a folder may put anything under a name in it, at any moment: a link to somebody
else's file, a pipe that never ends, a device, a file of terabytes. So each folder on the way is
opened by itself and without following a link (openat(2), O_NOFOLLOW), and what is opened at last
is looked at before it is read. Nothing is ever written there: an answer goes by a socket, what root
hands to another user lies in a folder of root's (``durable.make_readable_folder``).
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import BinaryIO

from nodeagent.host import durable
from nodeagent.host.host import Host

LONGEST = 1024 * 1024  # bytes that are overwritten; a key has some hundred
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK open(2) waits for whoever is to write into a pipe, and for whoever holds a
# lease on the file (fcntl(2), F_SETLEASE).
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@contextlib.contextmanager
def opened(host: Host, name: str) -> Iterator[BinaryIO]:
    """A file to read from. Raises OSError where there is none, for a link, a pipe, a device, and
    for a file of anybody but root and the folder's owner."""
    folder, base = posixpath.split(name)
    with (
        _folder(host, folder) as place,
        _file(place, base, os.O_RDONLY) as descriptor,
        os.fdopen(descriptor, "rb", closefd=False) as file,
    ):
        yield file


def read(host: Host, name: str, limit: int) -> bytes | None:
    """The first ``limit`` bytes of a file; None where there is none. Raises as ``opened``."""
    try:
        with opened(host, name) as file:
            return file.read(limit)
    except FileNotFoundError:
        return None


def names(host: Host, folder: str) -> list[str]:
    """The sorted names in a folder; empty where there is none, or where it is a link."""
    try:
        with _folder(host, folder) as place:
            return sorted(os.listdir(place))  # noqa: PTH208  of an open folder
    except OSError:
        return []


def shred(host: Host, folder: str, *bases: str) -> None:
    """Overwrite and remove files of the folder's owner, whatever stands under their names by now.

    Only what is a file of that owner is overwritten: they could do so themselves. Missing ones are
    no error. Raises OSError.
    """
    try:
        with _folder(host, folder) as place:
            for base in bases:
                with contextlib.suppress(OSError), _file(place, base, os.O_WRONLY) as descriptor:
                    durable.zero(descriptor, LONGEST)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(base, dir_fd=place)
            os.fsync(place)
    except FileNotFoundError:
        return


@contextlib.contextmanager
def _folder(host: Host, folder: str) -> Iterator[int]:
    """A folder, opened name by name from the root on; links that only root can make are followed
    first (``Host.path``)."""
    place = os.open(host.root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in host.path(folder).relative_to(host.root).parts:
            inner = os.open(part, _FOLDER, dir_fd=place)
            os.close(place)
            place = inner
        yield place
    finally:
        os.close(place)


@contextlib.contextmanager
def _file(place: int, base: str, mode: int) -> Iterator[int]:
    descriptor = os.open(base, mode | _FILE, dir_fd=place)
    try:
        found, owner = os.fstat(descriptor), os.fstat(place).st_uid
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{base} is not a regular file")
        # Two names: the other one may be root's (link(2)).
        allowed = (owner,) if mode & os.O_WRONLY else (owner, 0)
        if found.st_uid not in allowed or found.st_nlink > 1:
            raise OSError(f"{base} is not a file of whom its folder belongs to")
        yield descriptor
    finally:
        os.close(descriptor)
