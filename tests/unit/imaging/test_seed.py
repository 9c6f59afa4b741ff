"""Seeding images laid out as the real ones, by the real mtools; cards; and what goes wrong."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.errors import CommandFailed, Refused
from nodeagent.imaging import patch as splice
from nodeagent.imaging import tools
from nodeagent.trust import fleet_file
from tests.unit.imaging import layouts
from tests.unit.imaging.layouts import BOOT_START, LAYOUTS

pytestmark = pytest.mark.processes

OURS = {"nodeagent.fleet", "nodeagent/install.sh", "nodeagent/nodeagent_0.1.0_all.deb",
        "nodeagent/python3-click_8.1.3-2_all.deb",
        "nodeagent/python3-yaml_6.0-3+b2_arm64.deb"}  # fmt: skip
LINES = {name: "current/cmdline.txt" if name == "resolute" else "cmdline.txt" for name in LAYOUTS}


def seed(target: Path, fleet: Path, *more: str) -> Any:
    return CliRunner().invoke(
        main, ["image", "seed", str(target), "--fleet", str(fleet), *map(str, more)]
    )


def seeded(target: Path, fleet: Path, bundle: Path, *more: str) -> str:
    done = seed(target, fleet, "--packages", str(bundle), *more)
    assert done.exit_code == 0, done.output
    return str(done.output)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_image_gets_what_it_needs_once_and_nothing_else_changes(
    name: str, tmp_path: Path, fleet: Path, bundle: Path
) -> None:
    image = layouts.image(name, tmp_path)
    before = image.read_bytes()
    said = seeded(image, fleet, bundle)
    after, found, was = image.read_bytes(), layouts.files(image), LAYOUTS[name]
    line = LINES[name]
    hook = {"vendor-data"} if "user-data" in was else {"nodeagent/first-boot.sh"}
    assert set(found) - set(was) == OURS | hook | {f"{line}.nodeagent-backup"}
    assert {n: d for n, d in found.items() if n in was and n != line} == {
        n: d for n, d in was.items() if n != line
    }
    assert found[f"{line}.nodeagent-backup"].rstrip() in was[line] or hook != {"vendor-data"}
    words = found[line].split()
    assert [w for w in words if w in was[line].split()] == was[line].split()
    assert words.count(b"cgroup_enable=memory") == 1
    assert fleet_file.parse(found["nodeagent.fleet"]) == fleet_file.parse(
        fleet_file.from_kept(fleet.read_bytes())
    )
    # The table and the other partition are as they were, and so is the length.
    root = len(after) - layouts.ROOT_SIZE
    assert (len(after), after[:BOOT_START], after[root:]) == (
        len(before), before[:BOOT_START], before[root:]
    )  # fmt: skip
    assert "home" in said
    assert [path.name for path in tmp_path.glob("*nodeagent*")] == []
    # It holds keys now.
    assert image.stat().st_mode & 0o077 == 0
    when = image.stat().st_mtime_ns
    assert "nothing had to be changed" in seeded(image, fleet, bundle)
    assert (image.read_bytes(), image.stat().st_mtime_ns) == (after, when)


def test_the_file_system_is_sound_afterwards(tmp_path: Path, fleet: Path, bundle: Path) -> None:
    image = layouts.image("trixie", tmp_path)
    seeded(image, fleet, bundle)
    part = tmp_path / "part"
    part.write_bytes(image.read_bytes()[BOOT_START : -layouts.ROOT_SIZE])
    done = subprocess.run(["fsck.vfat", "-n", part], env=layouts.TOOLS, capture_output=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_mounted_card_gets_the_same_files(
    name: str, tmp_path: Path, fleet: Path, bundle: Path
) -> None:
    image = layouts.image(name, tmp_path)
    card = layouts.folder(LAYOUTS[name], tmp_path / "card")
    for target in (image, card):
        seeded(target, fleet, bundle, "--expected-nodes", "3")
    on_card = {
        path.relative_to(card).as_posix(): path.read_bytes()
        for path in card.rglob("*")
        if path.is_file()
    }
    assert on_card == layouts.files(image)
    assert "nothing had to be changed" in seeded(card, fleet, bundle, "--expected-nodes", "3")


def test_a_gpt_is_understood(tmp_path: Path, fleet: Path, bundle: Path) -> None:
    image = layouts.image("noble", tmp_path, gpt=True)
    seeded(image, fleet, bundle)
    assert "nodeagent.fleet" in layouts.files(image)


def test_files_of_other_people_do_no_harm(tmp_path: Path, fleet: Path, bundle: Path) -> None:
    image = layouts.image("trixie", tmp_path)
    theirs = {"notes[1].txt": b"one", "notes1.txt": b"two", "Übersicht für Anna.txt": b"three"}
    for name, data in theirs.items():
        put(image, name, data)
    seeded(image, fleet, bundle)
    found = layouts.files(image)
    assert {name: found[name] for name in theirs} == theirs


def test_settings_and_role_reach_the_card(tmp_path: Path, fleet: Path, bundle: Path) -> None:
    card = layouts.folder(LAYOUTS["trixie"], tmp_path / "card")
    mine = tmp_path / "mine.yaml"
    mine.write_text("# ours\nstatus_page: off\n")
    seeded(card, fleet, bundle, "--settings", str(mine), "--role", "worker")
    assert (card / "nodeagent.yaml").read_text() == "# ours\nstatus_page: off\nrole: worker\n"
    assert fleet_file.parse((card / "nodeagent.fleet").read_bytes()).control_plane_key is None


def test_what_imager_does_afterwards_leaves_the_hook(
    tmp_path: Path, fleet: Path, bundle: Path
) -> None:
    card = layouts.folder(LAYOUTS["trixie"], tmp_path / "card")
    seeded(card, fleet, bundle)
    hook = (card / "vendor-data").read_bytes()
    # As rpi-imager does: user-data and meta-data replaced, a word appended to the line.
    for name in ("user-data", "meta-data"):
        (card / name).write_bytes(layouts.TRIXIE_IMAGER[name])
    line = card / "cmdline.txt"
    line.write_bytes(line.read_bytes().rstrip() + b" ds=nocloud;i=rpi-imager-1\n")
    said = seeded(card, fleet, bundle)
    assert "nothing had to be changed" in said
    assert (card / "vendor-data").read_bytes() == hook
    assert (card / "user-data").read_bytes() == layouts.IMAGER_USER_DATA


# What is done to a good image or command, and what the person is told.
def cut_short(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(image.stat().st_size - 1024 * 1024)


def packed(image: Path) -> None:
    image.write_bytes(b"\xfd7zXZ\0" + bytes(600))


def no_image(image: Path) -> None:
    image.write_bytes(b"hello" * 1000)


def empty(image: Path) -> None:
    image.write_bytes(b"")


def no_fat(image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(BOOT_START)
        file.write(bytes(512))


def of_no_pi(image: Path) -> None:
    for name in ("cmdline.txt", "config.txt"):
        layouts.call("mdel", "-i", f"{image}@@{BOOT_START}", f"::{name}")


def put(image: Path, name: str, data: bytes) -> None:
    source = image.with_name("put")
    source.write_bytes(data)
    layouts.call("mcopy", "-o", "-i", f"{image}@@{BOOT_START}", str(source), f"::{name}")


def of_32_bit(image: Path) -> None:
    put(image, "kernel7l.img", layouts.KERNEL_32)


def old(image: Path) -> None:
    put(image, "issue.txt", b"Raspberry Pi reference 2023-05-03\n")


def full(image: Path) -> None:
    put(image, "big", bytes(39 * 1024 * 1024 + 200 * 1024))


def of_another_fleet(image: Path) -> None:
    put(image, "nodeagent.fleet", fleet_file.make("other")[1])


def used(image: Path) -> None:
    put(image, "nodeagent.fleet", fleet_file.scrub_text("home", 4000, 0))


def damaged_card(image: Path) -> None:
    put(image, "nodeagent.fleet", b"{")


def vendor(image: Path) -> None:
    put(image, "vendor-data", b"#cloud-config\n")


def wrong_settings(image: Path) -> None:
    put(image, "nodeagent.yaml", b"expected_nods: 3\n")


def empty_line(image: Path) -> None:
    put(image, "cmdline.txt", b"\n")


SPOILT = {
    cut_short: "is cut short", packed: "xz --decompress", no_image: "is no image",
    empty: "is no image", no_fat: "is no image", of_no_pi: "no boot partition of a Raspberry Pi",
    of_32_bit: "64-bit image", old: "too old", full: "has no room",
    of_another_fleet: "another fleet before (other", used: "has been in a board",
    damaged_card: "is damaged", vendor: "somebody else", wrong_settings: "expected_nodes",
    empty_line: "is empty",
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda f: f.__name__)
def test_a_bad_image_is_named_and_left_alone(
    spoil: Any, tmp_path: Path, fleet: Path, bundle: Path
) -> None:
    image = layouts.image("trixie", tmp_path)
    spoil(image)
    before = digest(image)
    done = seed(image, fleet, "--packages", str(bundle))
    assert done.exit_code != 0 and "(E" in done.output, done.output
    assert SPOILT[spoil] in done.output.replace("\n", " ")
    assert "Traceback" not in done.output and len(done.output.splitlines()) == 2
    assert digest(image) == before
    assert not list(tmp_path.glob("*undo*")) and not list(tmp_path.glob(".nodeagent*"))


def test_bad_packages_are_named(tmp_path: Path, fleet: Path, bundle: Path) -> None:
    card = layouts.folder(LAYOUTS["trixie"], tmp_path / "card")
    good = bundle / "nodeagent_0.1.0_all.deb"
    cases = {
        "foreign_1.0_amd64.deb": (good.read_bytes(), "is for amd64"),
        "cut_1.0_all.deb": (good.read_bytes()[:-5000], "cut short"),
        "html_1.0_all.deb": (b"<html>", "no Debian package"),
        "renamed.deb": (good.read_bytes(), "is not called as packages are"),
        "nodeagent_0.2.0_all.deb": (good.read_bytes(), "One package of nodeagent"),
    }
    for name, (data, told) in cases.items():
        (bundle / name).write_bytes(data)
        done = seed(card, fleet, "--packages", str(bundle))
        assert done.exit_code != 0 and told in done.output, done.output
        (bundle / name).unlink()
    done = seed(card, fleet)
    assert "--deb FILE" in done.output
    assert {p.name for p in card.iterdir()} == {n.split("/")[0] for n in LAYOUTS["trixie"]}


def test_the_role_of_a_seeded_card_stays(tmp_path: Path, fleet: Path, bundle: Path) -> None:
    card = layouts.folder(LAYOUTS["trixie"], tmp_path / "card")
    seeded(card, fleet, bundle)
    done = seed(card, fleet, "--packages", str(bundle), "--role", "worker")
    assert done.exit_code != 0 and "another role" in done.output


def test_a_missing_tool_is_named(
    tmp_path: Path, fleet: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = layouts.image("trixie", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = seed(image, fleet, "--packages", str(bundle))
    assert done.exit_code != 0
    assert "sudo apt-get install mtools (on macOS: brew install mtools)" in done.output


@pytest.mark.parametrize("failing", [1, 4, 8])
def test_mtools_that_fails_at_any_file_leaves_the_image_alone(
    failing: int, tmp_path: Path, fleet: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = layouts.image("bookworm", tmp_path)
    before = digest(image)
    copy, programs, count = shutil.which("mcopy"), tmp_path / "bin", tmp_path / "count"
    programs.mkdir()
    count.write_text("")
    (programs / "mcopy").write_text(
        f'#!/bin/sh\necho x >>{count}\n[ "$(wc -l <{count})" -eq {failing} ] && '
        f'{{ echo "Disk full" >&2; exit 1; }}\nexec {copy} "$@"\n'
    )
    (programs / "mcopy").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{layouts.TOOLS['PATH']}")
    # In a sandbox it could not count.
    monkeypatch.setattr(tools, "without_sandbox", lambda: "a test")
    done = seed(image, fleet, "--packages", str(bundle))
    assert done.exit_code == 71, done.output
    assert "Disk full" in done.output
    assert digest(image) == before
    assert not list(tmp_path.glob("*undo*")) and not list(tmp_path.glob(".nodeagent*"))


def test_a_failure_while_the_image_is_written_brings_it_back(
    tmp_path: Path, fleet: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = layouts.image("trixie", tmp_path)
    before = digest(image)
    good, calls = splice._write, []

    def failing(descriptor: int, data: bytes) -> None:
        calls.append(len(data))
        if len(calls) == 2:
            good(descriptor, data[:1000])
            raise OSError(28, "No space left on device", str(image))
        good(descriptor, data)

    monkeypatch.setattr(splice, "_write", failing)
    done = seed(image, fleet, "--packages", str(bundle))
    assert done.exit_code != 0 and "No space left on device" in done.output
    assert digest(image) == before
    assert not list(tmp_path.glob("*undo*"))


@pytest.mark.parametrize("at", [1, 3])
def test_power_lost_while_the_image_is_written_is_made_good_by_the_next_command(
    at: int, tmp_path: Path, fleet: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = layouts.image("trixie", tmp_path)
    before = image.read_bytes()
    good, calls = splice._write, []

    class PowerCut(BaseException):
        """A double of the end of everything."""

    def cut(descriptor: int, data: bytes) -> None:
        calls.append(len(data))
        good(descriptor, data[: len(data) // 2] if len(calls) == at else data)
        if len(calls) == at:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(splice, "_write", cut)
        with pytest.raises(PowerCut):
            seed(image, fleet, "--packages", str(bundle))
    assert image.read_bytes() != before
    undo = image.with_name(image.name + splice.SUFFIX)
    kept = undo.read_bytes()
    assert splice.recover(image)
    assert image.read_bytes() == before and not undo.exists()
    # Cut short itself, it says nothing: the image was not yet touched then.
    undo.write_bytes(kept[:-1])
    assert splice.recover(image) and image.read_bytes() == before
    seeded(image, fleet, bundle)
    assert "nodeagent.fleet" in layouts.files(image)


def test_old_blocks_of_another_image_are_not_put_into_this_one(tmp_path: Path) -> None:
    image, changed = tmp_path / "x.img", tmp_path / "new"
    image.write_bytes(bytes(100_000))
    changed.write_bytes(b"x" * 100_000)
    assert splice.write_back(image, 0, changed) == 100_000
    undo = image.with_name(image.name + splice.SUFFIX)
    body = b""
    head = splice._HEAD.pack(1, 1, hashlib.sha256(body).digest())
    undo.write_bytes(splice._MAGIC + head + b"more")
    with pytest.raises(Refused, match="another image"):
        splice.recover(image)
    assert image.read_bytes() == b"x" * 100_000


def test_a_card_that_cannot_be_written_to_the_end_is_put_back(
    tmp_path: Path, fleet: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nodeagent.host import durable

    card = layouts.folder(LAYOUTS["bookworm"], tmp_path / "card")
    good = durable.write

    def failing(path: Path, data: bytes, mode: int, owner: Any = None) -> None:
        if path == card / "cmdline.txt" and b"cgroup" in data:
            raise OSError(5, "Input/output error", str(path))
        good(path, data, mode, owner)

    monkeypatch.setattr(durable, "write", failing)
    done = seed(card, fleet, "--packages", str(bundle))
    assert done.exit_code != 0 and "Input/output error" in done.output
    left = {p.relative_to(card).as_posix() for p in card.rglob("*") if p.is_file()}
    assert left == set(LAYOUTS["bookworm"])


def test_a_disk_is_not_written_to(fleet: Path, bundle: Path) -> None:
    disks = [p for p in Path("/dev").iterdir() if p.is_block_device()]
    for disk in disks[:1]:
        done = seed(disk, fleet, "--packages", str(bundle))
        assert done.exit_code != 0 and "writes to no disk" in done.output


def test_what_a_tool_says_is_told() -> None:
    with pytest.raises(CommandFailed, match="mdir"):
        tools.confined("mdir", "-i", "/nonexistent", "::")
