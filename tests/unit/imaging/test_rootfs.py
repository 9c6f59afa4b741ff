"""The root file system of an image: found, unpacked, made anew; by the real tools."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nodeagent.errors import ImageError
from nodeagent.imaging import build, rootfs, tools
from nodeagent.imaging.progress import Progress
from tests.lab import disk
from tests.unit.imaging import layouts

pytestmark = pytest.mark.processes

CAPABLE = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep


def rich(tree: Path) -> None:
    """Whatever a file can have."""
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "etc").mkdir()
    sudo, ping = tree / "usr/bin/sudo", tree / "usr/bin/ping"
    for program in (sudo, ping):
        program.write_bytes(b"\x7fELF" + bytes(9000))
    os.chown(sudo, 0, 44)
    sudo.chmod(0o4750)
    os.setxattr(ping, "security.capability", CAPABLE)
    os.setxattr(ping, "user.note", b"odd \xff bytes")
    os.link(ping, tree / "usr/bin/ping6")
    (tree / "bin").symlink_to("usr/bin")
    os.mkfifo(tree / "etc/pipe")
    os.mknod(tree / "etc/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with (tree / "etc/holes").open("wb") as file:
        file.seek(3 * 1024 * 1024)
        file.write(b"end")
    for path in sorted(tree.rglob("*"), reverse=True):
        os.utime(path, (10**9, 10**9), follow_symlinks=False)


def seen(tree: Path) -> dict[str, tuple[object, ...]]:
    """All of it, by name; hard links by which names are one file."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    for path in sorted(tree.rglob("*")):
        name, now = str(path.relative_to(tree)), path.lstat()
        if name == "lost+found":
            continue
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        attributes = {
            one: os.getxattr(path, one, follow_symlinks=False)
            for one in os.listxattr(path, follow_symlinks=False)
        }
        one_file = first.setdefault(now.st_ino, name) if not path.is_dir() else ""
        time = now.st_mtime if not path.is_dir() else None
        found[name] = (now.st_mode, now.st_uid, now.st_gid, now.st_rdev, time, content,
                       attributes, one_file)  # fmt: skip
    return found


def unpacked(image: Path, target: Path) -> list[Progress]:
    """The image's tree, as a bake unpacks it."""
    told: list[Progress] = []
    root = rootfs.find(image)
    target.mkdir()
    build._copy(image, root, target, told.append)
    return told


def image(layout: str, where: Path, gpt: bool) -> Path:
    """A layout's image; with a GPT whose checksums are right, which partition tools look at."""
    path = layouts.image(layout, where, gpt=gpt)
    if gpt:
        sectors = 40 * 1024 * 1024 // layouts.SECTOR
        begin = layouts.BOOT_START // layouts.SECTOR
        fat = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
        script = f"label: gpt\nstart={begin}, size={sectors}, type={fat}\n"
        script += f"start={begin + sectors}, size={layouts.ROOT_SIZE // layouts.SECTOR}\n"
        tools.confined("sfdisk", "--quiet", "--wipe", "never", str(path), stdin=script.encode(),
                       writes=[path])  # fmt: skip
    return path


@pytest.mark.parametrize("gpt", [False, True], ids=["mbr", "gpt"])
def test_a_tree_survives_whole(tmp_path: Path, gpt: bool) -> None:
    stock = image("trixie", tmp_path, gpt)
    before = stock.read_bytes()
    tree = tmp_path / "rich"
    tree.mkdir()
    rich(tree)
    old = rootfs.find(stock)
    rootfs.build(stock, old, tree, tmp_path / "new.img")
    told = unpacked(tmp_path / "new.img", tmp_path / "again")
    assert seen(tmp_path / "again") == seen(tree)
    assert told[-1].ends and told[0].stage == told[-1].stage
    assert (tmp_path / "again/etc/holes").stat().st_blocks < 100
    assert stock.read_bytes() == before


def test_what_containerd_marks_is_kept(tmp_path: Path) -> None:
    """Folders that hide those of layers below, which only root sees (kernel docs, overlayfs)."""
    stock, tree = image("trixie", tmp_path, gpt=False), tmp_path / "layer"
    (tree / "etc").mkdir(parents=True)
    os.setxattr(tree / "etc", "trusted.overlay.opaque", b"y")
    old = rootfs.find(stock)
    rootfs.build(stock, old, tree, tmp_path / "new.img")
    argv = ("debugfs", "-R", "ea_list /etc", f"{tmp_path / 'new.img'}?offset={old.offset}")
    assert b"trusted.overlay.opaque" in layouts.call(*argv)


def test_hard_links_survive_a_driver_that_hides_them(tmp_path: Path) -> None:
    """As the fuse2fs of Debian 13 does: it says how many names a file has, and not which."""
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    for folder in (tree, copy):
        (folder / "bin").mkdir(parents=True)
        for name, content in (("a", b"one"), ("b", b"two")):
            (folder / name).write_bytes(content)
            for other in (f"bin/{name}", f"{name}2"):
                if folder is tree:
                    (folder / other).hardlink_to(folder / name)
                else:
                    (folder / other).write_bytes(content)
        (folder / "alone").write_bytes(b"one")
        for path in folder.rglob("*"):
            os.utime(path, (10**9, 10**9))
    assert seen(copy) != seen(tree)
    build._link(layouts.call("find", str(tree), *build.LINKED), copy)
    assert seen(copy) == seen(tree)


@pytest.mark.parametrize("gpt", [False, True], ids=["mbr", "gpt"])
def test_it_grows_and_keeps_its_identity(tmp_path: Path, gpt: bool) -> None:
    stock = image("noble", tmp_path, gpt)
    old = rootfs.find(stock)
    tree = tmp_path / "files/overlays"
    (tree / "large").write_bytes(os.urandom(6 * 1024 * 1024))
    size = rootfs.build(stock, old, tree, tmp_path / "new.img")
    new = rootfs.find(tmp_path / "new.img")
    assert (new.uuid, new.label, new.features) == (old.uuid, old.label, old.features)
    assert (new.number, new.offset, new.inode_size) == (old.number, old.offset, old.inode_size)
    assert new.size > old.size + rootfs.SLACK
    assert (tmp_path / "new.img").stat().st_size == size >= new.offset + new.size
    assert layouts.files(tmp_path / "new.img") == layouts.files(stock)
    with stock.open("rb") as a, (tmp_path / "new.img").open("rb") as b:
        assert a.read(446) == b.read(446)  # boot code and the identity that PARTUUID is of


SIZES = [
    # size, inodes, used, files -> grows, inodes
    (8 << 30, 500_000, 1 << 30, 30_000, False, 500_000),
    (2 << 30, 130_000, 2 << 30, 60_000, True, 130_000),
    (2 << 30, 130_000, 1 << 29, 200_000, False, 250_000),
]


@pytest.mark.parametrize(("size", "inodes", "used", "files", "grows", "wanted"), SIZES)
def test_sizes(size: int, inodes: int, used: int, files: int, grows: bool, wanted: int) -> None:
    root = rootfs.Root(2, 1 << 28, size, False, "", "", (), 256, inodes, 0)
    new, count = rootfs.size_for(root, used, files)
    assert (new > size, count) == (grows, wanted)
    assert new % rootfs.MIB == 0 and new >= size
    assert new > used + count * 256 + rootfs.SLACK or not grows


def test_a_root_in_use_is_refused(tmp_path: Path) -> None:
    stock = layouts.image("trixie", tmp_path)
    offset = rootfs.find(stock).offset
    layouts.call("debugfs", "-w", "-R", "set_super_value state 0", f"{stock}?offset={offset}")
    with pytest.raises(ImageError, match=r"in use, or was not shut down cleanly"):
        rootfs.find(stock)


def test_another_file_system_is_refused(tmp_path: Path) -> None:
    stock = layouts.image("trixie", tmp_path)
    offset = rootfs.find(stock).offset
    with stock.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(4096))
    with pytest.raises(ImageError, match=r"is not ext4"):
        rootfs.find(stock)


def test_the_labs_boot_partition_is_a_fat32_for_everybody(tmp_path: Path) -> None:
    """Microsoft's specification: the count of clusters alone tells the kinds of FAT apart."""
    partition = tmp_path / "boot.img"
    with partition.open("wb") as file:
        file.truncate(disk.BOOT_SIZE)
    layouts.call(*disk.MAKE_FAT, str(partition))
    (tmp_path / "config.txt").write_text("arm_64bit=1\n")
    layouts.call("mcopy", "-i", str(partition), str(tmp_path / "config.txt"), "::")
    data = partition.read_bytes()[:512]
    per_cluster, reserved, tables = data[13], int.from_bytes(data[14:16], "little"), data[16]
    of_table = int.from_bytes(data[36:40], "little")
    sectors = disk.BOOT_SIZE // disk.SECTOR - reserved - tables * of_table
    assert sectors // per_cluster >= 65525
    listed = layouts.call("mdir", "-b", "-i", str(partition), "::").decode()
    assert listed.split() == ["::/config.txt"]
