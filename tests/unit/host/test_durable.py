"""The durable write, on the model of a disk that forgets; and that the model would notice."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.host import durable
from tests.support.lossy_disk import FAT, Disk

OLD, NEW = b"old content\n", b"new content, longer than a word\n"
Writer = Callable[[Path, bytes, int], None]


def faults(folder: Path, writer: Writer, below: str = "file") -> list[str]:
    """What a power cut can do to this writer; empty for a durable one."""
    target = folder / below
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(OLD)
    disk = Disk(folder)
    found: list[str] = []

    def look(effect: str) -> None:
        for tree in disk.states():
            if tree.get(below) not in (("file", OLD), ("file", NEW)):
                found.append(f"torn before {effect}: {tree.get(below)}")

    with disk.watched(look):
        writer(target, NEW, 0o644)
        look("the end")
    found += [
        "came back, and is lost" for tree in disk.states() if tree.get(below) != ("file", NEW)
    ]
    return found


@pytest.mark.parametrize("below", ["file", f"{FAT}/cmdline.txt"])
def test_a_cut_leaves_the_old_or_the_new(below: str, tmp_path: Path) -> None:
    assert faults(tmp_path, durable.write, below) == []


def test_a_new_file_on_fat_is_durable(tmp_path: Path) -> None:
    (tmp_path / FAT).mkdir(parents=True)
    disk = Disk(tmp_path)
    with disk.watched():
        durable.write(tmp_path / FAT / "new", NEW, 0o644)
    assert {tree[f"{FAT}/new"] for tree in disk.states()} == {("file", NEW)}


def put(path: Path, data: bytes, sync: bool = False) -> None:
    """Write a file the plain way."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, data)
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def in_place(path: Path, data: bytes, mode: int) -> None:
    """A seeded defect: what most programs do."""
    put(path, data)


def without_file_sync(path: Path, data: bytes, mode: int) -> None:
    """A seeded defect: rename, but the content not synced first."""
    put(path.with_name("beside"), data)
    os.replace(path.with_name("beside"), path)
    durable.sync_folder(path.parent)


def without_folder_sync(path: Path, data: bytes, mode: int) -> None:
    """A seeded defect: the content synced, the rename not."""
    put(path.with_name("beside"), data, sync=True)
    os.replace(path.with_name("beside"), path)


def not_held(path: Path, data: bytes, mode: int) -> None:
    """A seeded defect: what is enough on ext4 and was ours until a board did not start again."""
    put(path.with_name("beside"), data, sync=True)
    os.replace(path.with_name("beside"), path)
    durable.sync_folder(path.parent)


def test_the_model_knows_fat(tmp_path: Path) -> None:
    assert faults(tmp_path, not_held) == []
    assert faults(tmp_path, not_held, f"{FAT}/cmdline.txt")


@pytest.mark.parametrize("writer", [in_place, without_file_sync, without_folder_sync])
def test_the_model_notices_a_careless_writer(writer: Writer, tmp_path: Path) -> None:
    assert faults(tmp_path, writer)


def test_a_new_folder_is_durable_with_its_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    disk = Disk(root)
    with disk.watched():
        durable.write(root / "a/b/c", NEW, 0o644)
    disk.cut("lost")
    assert (root / "a/b/c").read_bytes() == NEW


def test_removal_is_durable(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(OLD)
    disk = Disk(root)
    with disk.watched():
        durable.remove(root / "file")
        durable.remove(root / "file")
    disk.cut("lost")
    assert not (root / "file").exists()


def test_mode_is_set_before_the_content_is_visible(tmp_path: Path) -> None:
    durable.write(tmp_path / "secret", NEW, 0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_full_or_failing_disk_leaves_the_old_file_and_names_it(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(OLD)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left") as caught:
            durable.write(target, NEW, 0o644)
    assert caught.value.filename == str(target)
    assert os.listdir(tmp_path) == ["file"] and target.read_bytes() == OLD


def test_what_an_earlier_cut_left_beside_is_replaced(tmp_path: Path) -> None:
    (tmp_path / f".file{durable.TEMPORARY}").write_bytes(b"half")
    durable.write(tmp_path / "file", NEW, 0o644)
    assert os.listdir(tmp_path) == ["file"]


def test_overwrite_keeps_the_length_and_the_place(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(OLD)
    number = target.stat().st_ino
    durable.overwrite(target, b"\0" * len(OLD))
    assert target.read_bytes() == b"\0" * len(OLD) and target.stat().st_ino == number
    with pytest.raises(ValueError, match="same length"):
        durable.overwrite(target, b"")


def test_overwrite_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(OLD)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError, match="symbolic links"):
        durable.overwrite(tmp_path / "link", b"\0" * len(OLD))
