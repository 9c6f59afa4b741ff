"""What works on a stranger's bytes has a sandbox: where programs are begun, which, and how far they
may go."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.errors import CommandFailed, ImageError, ToolMissing
from nodeagent.host.host import Host, Result
from nodeagent.imaging import bake, build, chroot, rootfs, tools
from tests.unit.imaging import layouts

pytestmark = pytest.mark.processes

IMAGING = Path(tools.__file__).parent
# Where a process is begun at all: module, function. Each has its own sandbox, or its reason.
BEGIN = {
    ("tools", "run"): "nothing of a stranger's; it refuses tools that are for that",
    ("tools", "start"): "the sandbox for native tools",
    ("tools", "without_sandbox"): "looks whether there is one, with true(1)",
    ("chroot", "run"): "the sandbox for an image's programs",
    ("chroot", "containerd"): "the sandbox for an image's programs",
    ("bake", "_apart"): "our own code, in namespaces of its own",
    ("road", "opened"): "slirp4netns, which has a sandbox of its own",
}
# What is run without: it looks into no file of a stranger's.
BARE = {"mount", "umount", "unshare", "cp"}
BEGINS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call",
          "subprocess.check_output", "os.system", "os.popen", "os.execv", "os.execvp", "os.execve",
          "os.posix_spawn", "os.posix_spawnp", "os.spawnv", "os.spawnvp", "os.fork",
          "run_process"}  # fmt: skip


def calls() -> Iterator[tuple[str, str, str, ast.Call]]:
    """Every call in the package: module, function, the called name, the call."""
    for path in sorted(IMAGING.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call):
                        yield path.stem, function.name, ast.unparse(node.func), node


def first_words(call: ast.Call) -> list[str]:
    """The program, where it stands in the call or in a tuple that a name stands for."""
    found = []
    for argument in call.args[:2]:
        one = argument.value if isinstance(argument, ast.Starred) else argument
        if isinstance(one, ast.Tuple | ast.List) and one.elts:
            one = one.elts[0]
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            found.append(one.value)
    return found[:1]


def test_processes_are_begun_in_known_places_only() -> None:
    begun = {(module, function) for module, function, name, _ in calls() if name in BEGINS}
    begun.discard(("chroot", "entered"))  # around its inner function
    assert begun == set(BEGIN)


def test_what_is_run_without_a_sandbox_looks_into_nothing_of_a_strangers() -> None:
    bare = {
        word
        for _, _, name, call in calls()
        if name in ("tools.run", "stack.callback")
        for word in (first_words(call) or ["?"])
        if word != "?"
    }
    assert bare <= BARE


def test_every_tool_for_strangers_bytes_is_known() -> None:
    """No other goes through the sandbox unseen: the list is what SECURITY.md says."""
    used = set()
    for path in sorted(IMAGING.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".confined"):
                used |= set(first_words(node))
            elif isinstance(node, ast.Tuple) and node.elts:
                first = node.elts[0]
                if isinstance(first, ast.Constant) and first.value in tools.ON_STRANGERS_BYTES:
                    used.add(str(first.value))
    used.add(build.FUSE.split()[0])
    assert used == tools.ON_STRANGERS_BYTES
    said = (IMAGING.parents[1] / "SECURITY.md").read_text()
    packages = {tools.PACKAGES.get(name, name) for name in tools.ON_STRANGERS_BYTES - {"sfdisk"}}
    assert [name for name in (*packages, "sfdisk") if name not in said] == []


def test_such_a_tool_is_not_run_without() -> None:
    for name in tools.ON_STRANGERS_BYTES:
        with pytest.raises(AssertionError):
            tools.run(name)


def test_an_answer_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FAT whose chain of clusters goes in a circle, for example."""
    endless(tmp_path, monkeypatch, "while :; do echo 0123456789; done")
    with pytest.raises(CommandFailed, match="status 153"):
        tools.confined("mtype", largest=100_000, seconds=5)
    assert len(tools.confined("mtype", first=1000, seconds=5)) == 1000


def test_work_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless(tmp_path, monkeypatch, "while :; do :; done")
    with pytest.raises(CommandFailed, match=r"status 152|no end within 1 s"):
        tools.confined("mtype", seconds=1)
    endless(tmp_path, monkeypatch, "sleep 60")
    with pytest.raises(CommandFailed, match="no end within 1 s"):
        tools.confined("mtype", seconds=1)


def endless(folder: Path, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    (folder / "mtype").write_text(f"#!/bin/sh\n{work}\n")
    (folder / "mtype").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_an_image_that_holds_more_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that share their blocks, for example: there was room for what it said."""
    stock = layouts.image("trixie", tmp_path)
    monkeypatch.setattr(build, "MORE_THAN_USED", -rootfs.find(stock).used)
    (tmp_path / "copy").mkdir()
    with pytest.raises(ImageError, match="holds more than its own figures say"):
        build._copy(stock, rootfs.find(stock), tmp_path / "copy", lambda progress: None)


@pytest.mark.parametrize("name", ["../outside", "link/outside", "link", "/etc/hostname"])
def test_hard_links_stay_in_the_copy(name: str, tmp_path: Path) -> None:
    """Their list comes from a process that read a stranger's bytes."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (tmp_path / "outside").write_text("mine")
    (copy / "inside").write_text("mine")
    (copy / "link").symlink_to(tmp_path)
    what = "2 4 1000000000.0000000000 644 0 0"
    with pytest.raises(ImageError, match="is not where the image says"):
        build._link(f"{what} inside\0{what} {name}\0".encode(), copy)
    assert (tmp_path / "outside").stat().st_nlink == 1


def test_where_there_is_no_sandbox_seeding_says_so_and_baking_is_refused(
    tmp_path: Path, fleet: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS, or where the system lets an ordinary user have none (Ubuntu 24.04)."""
    monkeypatch.setattr(
        tools, "without_sandbox", lambda: "bwrap: setting up uid map: Permission denied"
    )
    image = layouts.image("trixie", tmp_path)
    argv = ["image", "seed", str(image), "--fleet", str(fleet), "--packages", str(bundle)]
    done = CliRunner().invoke(main, argv)
    assert done.exit_code == 0, done.output
    assert "had no sandbox (bwrap: setting up uid map: Permission denied)" in done.output
    with pytest.raises(ToolMissing, match="keep strangers' bytes apart"):
        tools.need_sandbox()


def test_where_a_package_gives_a_sandbox_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools.without_sandbox.cache_clear()
    monkeypatch.setattr(tools, "environment", lambda: {"PATH": str(tmp_path)})
    with pytest.raises(ToolMissing, match="bwrap is not installed") as caught:
        tools.without_sandbox()
    assert "sudo apt-get install bubblewrap" in caught.value.remedy


def test_on_another_system_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    tools.without_sandbox.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "for Linux only" in (tools.without_sandbox() or "")
    monkeypatch.undo()
    tools.without_sandbox.cache_clear()


def test_a_bake_needs_what_it_runs() -> None:
    assert {*bake.PROGRAMS} >= tools.ON_STRANGERS_BYTES - {"mmd", "mtype"}


def test_a_sandbox_without_rights_is_told_before_the_work(tmp_path: Path) -> None:
    """AppArmor's bwrap-userns-restrict, which Ubuntu loads from 25.04 on."""

    def run(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        err = "chown: changing ownership of '/run/owned': Operation not permitted\n"
        return Result(0, "", "" if argv == ["true"] else err)

    with pytest.raises(ToolMissing, match="takes that right from what bubblewrap runs") as caught:
        chroot._try(Host(tmp_path, run, programs=True))
    assert "apparmor_parser -R" in caught.value.remedy


def test_a_reader_that_cannot_begin_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before it has said so, bwrap leaves a child that waits for ever."""

    def fails(pid: int) -> None:
        raise OSError(1, "Operation not permitted")

    stock = layouts.image("trixie", tmp_path)
    monkeypatch.setattr(build, "_same_users", fails)
    reader = build._reader(stock, rootfs.find(stock), "true")
    with pytest.raises(OSError, match="not permitted"), reader:
        pass
    assert str(stock).encode() not in layouts.call("ps", "-eo", "args")
