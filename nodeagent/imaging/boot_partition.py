"""The boot partition of a card, wherever it is: in an image file, or mounted as a folder.

Both are changed whole or not at all. Names are relative to the partition, with slashes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from nodeagent.errors import CommandFailed, ImageError
from nodeagent.host import durable
from nodeagent.imaging import partition, patch, tools
from nodeagent.trust.fleet_file import NAME as CARD

CLUSTER = 32 * 1024  # the largest that FAT has, so that room is never thought larger than it is

Changes = Sequence[tuple[str, bytes]]


class Boot(Protocol):
    """A boot partition."""

    def names(self) -> list[str]:
        """Every file on it."""

    def read(self, name: str, first: int | None = None) -> bytes:
        """A file's content, or the first bytes of it."""

    def free(self) -> int:
        """Bytes that are left for files."""

    def write(self, changes: Changes) -> None:
        """Write all files, in this order, or none. Raises CommandFailed, OSError."""


def open_boot(path: Path) -> Boot:
    """The boot partition at ``path``. Raises ImageError, ToolMissing, OSError."""
    if path.is_dir():
        return CardFolder(path)
    if path.is_block_device():
        raise ImageError(
            f"{path} is a disk, and nodeagent writes to no disk directly.",
            "Let the system mount the card's boot partition, and give that folder.",
        )
    return ImageFile(path)


class ImageFile:
    """By mtools, in a copy of the partition that then goes back in one piece."""

    def __init__(self, path: Path) -> None:
        patch.recover(path)
        self.path = path
        self.part = partition.find(path)
        self._image = path.resolve()
        self._drive = f"{self._image}@@{self.part.offset}"

    def names(self) -> list[str]:
        """Raises CommandFailed, where the file system is damaged too."""
        said = tools.confined(
            "mdir", "-/", "-a", "-b", "-i", self._drive, "::", reads=[self._image]
        )
        listed = said.decode(errors="replace")
        names = [line.removeprefix("::/") for line in listed.splitlines()]
        return [name for name in names if not name.endswith("/") and _is_plain(name)]

    def read(self, name: str, first: int | None = None) -> bytes:
        """Raises CommandFailed."""
        # mtools takes names for patterns as a shell does.
        exact = re.sub(r"([*?\[\]\\])", r"\\\1", name)
        argv = ("mtype", "-i", self._drive, f"::{exact}")
        return tools.confined(*argv, reads=[self._image], first=first)

    def free(self) -> int:
        """What mdir says in its last line."""
        said = tools.confined("mdir", "-i", self._drive, "::", reads=[self._image]).decode()
        found = re.search(r"([\d ]+) bytes free", said)
        if found is None:
            raise ImageError(f"The boot partition of {self.path} is damaged.", partition.AGAIN)
        return int(found[1].replace(" ", ""))

    def write(self, changes: Changes) -> None:
        """The image itself is written last, see ``write_back``."""
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".nodeagent-") as folder:
            work, one = Path(folder).resolve() / "boot.img", Path(folder).resolve() / "file"
            drive, size = ("-i", str(work)), self.part.size
            self._copy(work)
            for name, data in changes:
                for parent in reversed(PurePosixPath(name).parents[:-1]):
                    with contextlib.suppress(CommandFailed):  # it is there already
                        make = ("mmd", "-D", "s", *drive, f"::{parent}")
                        tools.confined(*make, writes=[work], largest=size)
                one.write_bytes(data)
                copy = ("mcopy", "-o", *drive, str(one), f"::{name}")
                tools.confined(*copy, reads=[one], writes=[work], largest=size)
            for name, data in changes:
                if tools.confined("mtype", *drive, f"::{name}", reads=[work]) != data:
                    raise ImageError(
                        f"{name} does not read back from the boot partition as it was written.",
                        partition.AGAIN,
                    )
            self._hide()
            patch.write_back(self.path, self.part.offset, work)

    def _hide(self) -> None:
        """What holds the fleet's keys is nobody else's to read."""
        mode = self.path.stat().st_mode & 0o7777
        if mode & 0o077:
            self.path.chmod(mode & ~0o077)

    def _copy(self, work: Path) -> None:
        with self.path.open("rb") as image, work.open("wb") as copy:
            image.seek(self.part.offset)
            left = self.part.size
            while left and (data := image.read(min(patch.BLOCK, left))):
                left -= len(data)
                if data.count(0) == len(data):
                    copy.seek(len(data), os.SEEK_CUR)
                else:
                    copy.write(data)
            copy.truncate(self.part.size)


class CardFolder:
    """By plain files, each written durably, what starts anything last."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """What the computer itself puts on cards (.Spotlight-V100, ...) is left out."""
        found = []
        for folder, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith((".", "System Volume"))]
            inside = Path(folder).relative_to(self.path)
            found += [(inside / name).as_posix() for name in files if not name.startswith(".")]
        return sorted(found)

    def read(self, name: str, first: int | None = None) -> bytes:
        """Raises OSError."""
        with (self.path / name).open("rb") as file:
            return file.read() if first is None else file.read(first)

    def free(self) -> int:
        """Of the whole file system, as statvfs tells."""
        return shutil.disk_usage(self.path).free

    def write(self, changes: Changes) -> None:
        """Where one cannot be written, those before it become again what they were."""
        before: list[tuple[Path, bytes | None]] = []
        try:
            for name, data in changes:
                path = self.path / name
                before.append((path, path.read_bytes() if path.exists() else None))
                durable.write(path, data, 0o600 if name == CARD else 0o644)
        except OSError:
            for path, old in reversed(before):
                with contextlib.suppress(OSError):
                    if old is None:
                        durable.remove(path)
                    elif path.read_bytes() != old:
                        durable.write(path, old, 0o644)
            raise


def _is_plain(name: str) -> bool:
    """A name that stays inside whatever folder it is put in."""
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not name.startswith("/")
