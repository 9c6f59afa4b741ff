"""The one durable write. No other code of the agent writes files.

Rename alone is atomic but not durable: after a power cut the new name may point to an empty
file (rename(2), fsync(2) "Calling fsync() does not necessarily ensure that the entry in the
directory containing the file has also reached disk").

On FAT, where boot partitions lie, not even the folder's fsync helps. Linux keeps in the renamed
file's inode where it begins, and writes that into the folder with the inode only, while the
replaced file's clusters are freed at once (fs/fat/namei_vfat.c, vfat_rename; fs/fat/inode.c,
fat_evict_inode). For half a minute a power cut left a cmdline.txt that pointed to nothing: such a
board does not start again. So the replaced file is held open, which keeps its clusters, until the
new one has been synced under its new name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".nodeagent-new"
PIECE = 1024 * 1024  # bytes of zeros written at once


def write(path: Path, data: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Replace ``path`` by ``data`` so that a power cut leaves the old content or the new.

    ``owner`` is (uid, gid). The mode is set before any content is visible.
    Raises OSError; the target is then untouched.
    """
    make_folder(path.parent)
    temporary = _beside(path)
    try:
        _discard(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, 0o600)
        try:
            if owner is not None:
                os.fchown(descriptor, *owner)
            _chmod(descriptor, mode)
            _fill(descriptor, data)
            os.fsync(descriptor)
            with _held(path):
                temporary.replace(path)
                os.fsync(descriptor)
                sync_folder(path.parent)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Also on a full disk: what cannot be removed now is replaced by the next attempt.
        with contextlib.suppress(OSError):
            _discard(temporary)
        # write(2) and fsync(2) do not say which file it was, open(2) names the temporary one;
        # people need to know.
        raise OSError(error.errno, error.strerror, str(path)) from error


def replace_secret(
    path: Path, data: bytes, mode: int, owner: tuple[int, int] | None = None
) -> None:
    """As ``write``; what is replaced is then overwritten, so that its blocks are not freed with an
    old key in them. Raises OSError."""
    with _held(path, os.O_WRONLY) as old:
        write(path, data, mode, owner)
        if old is not None and stat.S_ISREG(os.fstat(old).st_mode):
            zero(old)


def create(path: Path, data: bytes, owner: tuple[int, int] | None = None) -> None:
    """Make a new file, 0600, for the person ``owner`` (uid, gid), as that person: what they may not
    write to is not written to, wherever links lead that somebody has put on the way. Where nobody
    but root can put any, as root. Raises FileExistsError where anything is there, OSError."""
    with _as(None if all(map(_is_roots, path.parents)) else owner):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            _fill(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(path.parent)


def _is_roots(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022


@contextlib.contextmanager
def _as(owner: tuple[int, int] | None) -> Iterator[None]:
    """Files are opened as another user meanwhile (credentials(7)); only root can do so."""
    if owner is None or os.geteuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([owner[1]])
    os.setegid(owner[1])
    os.seteuid(owner[0])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY}")


@contextlib.contextmanager
def _held(path: Path, access: int = os.O_RDONLY) -> Iterator[int | None]:
    """Keep what ``path`` names now open, so that its place on the disk is not freed meanwhile."""
    try:
        descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # nothing there, or a link, which has no place of its own
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, data: bytes) -> None:
    """Write all of it: write(2) may take a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _chmod(descriptor: int, mode: int) -> None:
    """Set the mode; FAT has none and refuses (mount(8), vfat ``quiet``), which is no harm."""
    with contextlib.suppress(PermissionError):
        os.fchmod(descriptor, mode)


def set_attribute(path: Path, value: str) -> None:
    """Write an attribute of the kernel's (sysfs(5)), which is no file on a disk: in place, in one
    write(2), and only where it is there. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode("ascii"))
    finally:
        os.close(descriptor)


def overwrite(path: Path, data: bytes) -> None:
    """Overwrite ``path`` in place with ``data`` of the same length, then fsync.

    Used to scrub secrets: touches data clusters only, never the allocation table, so a cut
    cannot damage a FAT file system. Raises ValueError where the length differs, OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_size != len(data):
            raise ValueError("overwrite needs data of the same length")
        _fill(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove ``path`` durably; a missing file is no error. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def remove_empty(folder: Path) -> None:
    """Remove ``folder`` durably where it is empty; a missing one is no error. Raises OSError."""
    if not folder.is_dir() or any(folder.iterdir()):
        return
    folder.rmdir()
    sync_folder(folder.parent)


def scrub(path: Path) -> None:
    """Overwrite a file with zeros in place, then fsync; with a folder, every file in it. Links are
    not followed, also where somebody puts one there meanwhile. A missing one is no error. Raises
    OSError."""
    if path.is_dir() and not path.is_symlink():
        for where, _, names, folder in os.fwalk(path):
            for name in sorted(names):
                _scrub(Path(where, name), os.stat(name, dir_fd=folder, follow_symlinks=False))
    elif path.exists():
        _scrub(path, path.lstat())


def _scrub(path: Path, listed: os.stat_result) -> None:
    if not stat.S_ISREG(listed.st_mode):
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not os.path.samestat(listed, os.fstat(descriptor)):
            raise OSError(errno.ESTALE, "somebody changes what is to be overwritten", str(path))
        zero(descriptor)
    finally:
        os.close(descriptor)


def zero(descriptor: int, most: int | None = None) -> None:
    """Overwrite an open file, or its first ``most`` bytes, with zeros, then fsync. Raises
    OSError."""
    size = os.fstat(descriptor).st_size
    left = size if most is None else min(size, most)
    while left:
        left -= os.write(descriptor, bytes(min(left, PIECE)))
    os.fsync(descriptor)


def shred(path: Path) -> None:
    """Overwrite a secret file with zeros, then remove it; the same with what a write that was cut
    off left beside it. Missing ones are no error. Raises OSError.

    Removing alone frees the blocks with the secret in them, for anyone who reads the raw disk.
    """
    for left in (path, _beside(path)):
        if left.is_file():
            scrub(left)
            remove(left)


def _discard(temporary: Path) -> None:
    """Remove what a write left that did not come to its end: it may hold a secret, too."""
    with contextlib.suppress(OSError):  # of a link, or of a card that fails
        overwrite(temporary, bytes(temporary.stat().st_size))
    temporary.unlink(missing_ok=True)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Make ``folder`` and its parents, each entry synced. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def make_readable_folder(folder: Path, group: int | None) -> None:
    """Make ``folder``, which this user alone writes and ``group`` may read (0750; no group: 0700).

    What somebody else owns or may write is removed first, with all that is in it: a link there
    would be theirs. Raises OSError.
    """
    mode = 0o700 if group is None else 0o750
    make_folder(folder.parent)
    with contextlib.suppress(FileNotFoundError):
        there = folder.lstat()
        own = there.st_uid == os.geteuid() and group in (None, there.st_gid)
        if own and there.st_mode == stat.S_IFDIR | mode:
            return
        if stat.S_ISDIR(there.st_mode):
            import shutil  # seldom: it loads every compression

            shutil.rmtree(folder)
        else:
            folder.unlink()
    folder.mkdir(mode=0o700)
    if group is not None:
        os.chown(folder, -1, group)
    folder.chmod(mode)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """fsync a directory, which makes renames and removals in it durable (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
