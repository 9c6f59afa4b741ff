"""The cgroup step on whole boot partitions, as boards have them, and the editing of the kernel's
command line by generated cases.

A case is a file ``bootfiles/CASE.yaml``:

    why:      a sentence
    image:    true for a mounted image; otherwise a running board
    model:    the board's, as in /proc/device-tree/model
    boot:     path below /boot/firmware -> content; files: the same with absolute paths.
              Content is text, bytes (!!binary), or a list of such and of {times: N, of: TEXT}
    empty:    more files below /boot/firmware (kernels and device trees)
    reads:    the cmdline.txt that the firmware of this board reads, now and after the reboot
    kernel:   what the kernel was started with, where it is not that file
    boots:    what the firmware reads in truth, where the agent cannot know
    then:     files that change before the reboot (an update is promoted)
    after:    path -> its content after the step; all else below /boot stays, byte for byte, except
              that the live file's old content is kept beside it
    error:    the sentence that people see instead; then all stays
    enabled:  true where the memory cgroup is on from the beginning
    verdict:  a kernel that stays without it, and the sentence then

A board is rebooted after the step, by doubles of the firmware and the kernel; then the step has to
hold and to change nothing more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.agent.main import as_trouble
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked, NotConverged
from nodeagent.host import durable
from nodeagent.host.boot import cmdline
from nodeagent.host.boot import files as bootfiles
from nodeagent.host.boot.configtxt import BOARDS, ConfigTxt, filters
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.steps import engine, show
from nodeagent.steps.cgroup import OFF, WANTED, Cgroup
from tests.support.machine import Machine, put

CASES = sorted((Path(__file__).parent / "bootfiles").glob("*.yaml"))
BOOT = "/boot/firmware"
DEVICE_TREE = b"coherent_pool=1M cgroup_disable=memory numa_policy=interleave "
BOOT_ID = "/proc/sys/kernel/random/boot_id"
CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"

Tree = dict[str, bytes]


def content(wish: Any) -> bytes:
    """The bytes that a case means."""
    if isinstance(wish, list):
        return b"".join(map(content, wish))
    if isinstance(wish, dict):
        return content(wish["of"]) * int(wish["times"])
    return wish if isinstance(wish, bytes) else str(wish).encode()


def absolute(name: str) -> str:
    """A path of a case: below the boot partition unless it begins with a slash."""
    return name if name.startswith("/") else f"{BOOT}/{name}"


def tree(root: Path) -> Tree:
    """All files below /boot."""
    found = [path for path in (root / "boot").rglob("*") if path.is_file()]
    return {f"/{path.relative_to(root)}": path.read_bytes() for path in found}


class Board(Machine):
    """A double of a board of a case: what its firmware and its kernel make of the files."""

    def __init__(self, root: Path, case: dict[str, Any]) -> None:
        super().__init__(root)
        self.case, self.boots = case, 0
        self.boot(content(case["kernel"]) if "kernel" in case else None)

    def boot(self, said: bytes | None = None) -> None:
        """Power on. The kernel's command line is the device tree's words and the file's first line
        of words; later words win."""
        self.boots += 1
        if said is None:
            read = self.case.get("boots", self.case["reads"])
            lines = content(self.read(absolute(read)) or b"").split(b"\n")
            lines = [line for line in lines if line.strip()]
            said = DEVICE_TREE + (lines[0].strip() if lines else b"")
        said = said[: cmdline.LIMIT - 1]
        on = self.case.get("enabled", False)
        for word in split(said):
            if word == b"cgroup_enable=memory":
                on = "verdict" not in self.case
            elif turns_off(word) and not self.case.get("enabled"):
                on = False
        put(self.root, {
            "/proc/cmdline": said + b"\n",
            BOOT_ID: f"boot-{self.boots}\n",
            CONTROLLERS: "cpuset cpu io memory pids\n" if on else "cpuset cpu io pids\n",
        })  # fmt: skip

    def prepare(self) -> list[str]:
        """What the agent does; gives the reboots it asks for."""
        state_file = StateFile(self)
        reboots = engine.run([Cgroup()], self, Settings(), state_file, lambda _: None)
        if reboots:
            engine.ask_reboot(reboots, self, state_file)
        return [reboot.token for reboot in reboots]


def lay_out(case: dict[str, Any], root: Path) -> None:
    """The files of a case."""
    put(root, {absolute(name): "binary\n" for name in case.get("empty", [])})
    put(root, {absolute(name): content(wish) for name, wish in case.get("boot", {}).items()})
    put(root, {name: content(wish) for name, wish in case.get("files", {}).items()})
    if "model" in case:
        put(root, {"/proc/device-tree/model": case["model"] + "\0"})


def expected(case: dict[str, Any], before: Tree) -> Tree:
    """The files after the step: what the case says, and the backup of the live file (on an image of
    each file)."""
    after = {absolute(name): content(wish) for name, wish in case.get("after", {}).items()}
    live = [absolute(case["reads"])] if "reads" in case else list(after)
    kept = {
        path + bootfiles.BACKUP: before[path]
        for path in live
        if path in after and path + bootfiles.BACKUP not in before
    }
    return before | kept | after


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_layout(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    assert case["why"]
    lay_out(case, tmp_path)
    before = tree(tmp_path)
    if case.get("image"):
        image(case, tmp_path, before)
        return
    board = Board(tmp_path, case)
    if "error" in case:
        for _ in range(2):
            with pytest.raises(Blocked) as caught:
                board.prepare()
            assert case["error"] in caught.value.reason
            assert caught.value.reason.endswith(".") and caught.value.remedy.endswith(".")
            assert tree(tmp_path) == before
        return
    assert board.prepare() == ([] if case.get("enabled") else ["cgroup"])
    assert tree(tmp_path) == expected(case, before)
    assert board.prepare() == ([] if case.get("enabled") else ["cgroup"]), (
        "before the reboot, again"
    )
    assert tree(tmp_path) == expected(case, before)
    put(tmp_path, {absolute(n): c and content(c) for n, c in case.get("then", {}).items()})
    settled = tree(tmp_path)
    board.boot()
    if "verdict" in case:
        with pytest.raises(NotConverged) as verdict:
            board.prepare()
        assert case["verdict"] in verdict.value.reason
        assert verdict.value.remedy.endswith(".")
    else:
        assert board.prepare() == []
    assert tree(tmp_path) == settled


def image(case: dict[str, Any], root: Path, before: Tree) -> None:
    """``nodeagent prepare --root`` on an image, twice."""
    if "error" in case:
        with pytest.raises(Blocked) as caught:
            show.prepare(root, "cgroup")
        assert case["error"] in caught.value.reason
        assert tree(root) == before
        return
    show.prepare(root, "cgroup")
    assert tree(root) == expected(case, before)
    assert show.prepare(root, "cgroup") == ["Nothing to do: every step holds."]
    assert tree(root) == expected(case, before)


def test_there_are_enough_layouts_and_no_two_are_one() -> None:
    cases = [yaml.safe_load(path.read_text()) for path in CASES]
    distinct = {str({**case, "why": None}) for case in cases}
    assert len(distinct) == len(CASES) >= 60


# A boot partition that cannot be written


@pytest.mark.parametrize(
    ("number", "remedy"), [(28, "Free some space there"), (30, "Mount it writable again")]
)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_full_or_read_only_partition_leaves_all_as_it_was(
    call: str, number: int, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {f"{BOOT}/cmdline.txt": "root=/dev/a rootwait\n"})
    board = Board(tmp_path, {"reads": "cmdline.txt"})
    before = tree(tmp_path)
    real = getattr(os, call)

    def failing(first: Any, *more: Any, **named: Any) -> Any:
        where = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
        writes = call != "open" or more[0] & (os.O_WRONLY | os.O_DIRECTORY)
        if str(tmp_path / "boot") in where and writes:
            raise OSError(number, os.strerror(number))
        return real(first, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            board.prepare()
    assert tree(tmp_path) == before, "no leftovers either"
    shown = as_trouble(caught.value)
    assert f"{BOOT}/cmdline.txt" in shown.reason and remedy in shown.remedy
    assert board.prepare() == ["cgroup"], "and goes on once the partition is well again"


def test_what_a_power_cut_left_on_the_partition_goes_with_the_next_write(tmp_path: Path) -> None:
    left = [f"{BOOT}/.cmdline.txt{end}" for end in
            (durable.TEMPORARY, bootfiles.BACKUP + durable.TEMPORARY)]  # fmt: skip
    put(tmp_path, {f"{BOOT}/cmdline.txt": "root=/dev/a\n", **dict.fromkeys(left, "half")})
    Board(tmp_path, {"reads": "cmdline.txt"}).prepare()
    assert sorted(tree(tmp_path)) == [f"{BOOT}/cmdline.txt", f"{BOOT}/cmdline.txt.nodeagent-backup"]


# The command line, by generated cases

WORDS = st.sampled_from(
    [b"root=/dev/a", b"quiet", b"cgroup_disable=memory", b"cgroup_disable=cpu,memory",
     b"cgroup-disable=memory", b"cgroup_enable=memory", b"cgroup_memory=1", b"cgroup_memory=0",
     b"--", b"\xe4\xff", b"systemd.run=/boot/firstrun.sh", b"systemd.run_success_action=reboot",
     b'x="a b"', b'y="a', b"\xc2\xa0z"]
)  # fmt: skip
SPACES = st.sampled_from([b" ", b"  ", b"\t", b" \xa0"])
LINE = st.lists(st.tuples(WORDS, SPACES).map(b"".join), max_size=8).map(b"".join)
FILES = st.one_of(
    st.tuples(
        st.sampled_from([b"", b"\xef\xbb\xbf", b"\n", b" "]),
        LINE,
        st.sampled_from([b"", b"\n", b"\r\n", b"\n\n", b"\nsecond line\r\n\r\n", b"\n\0"]),
    ).map(b"".join),
    st.binary(max_size=200),
)
WISHED = [word.encode() for word in WANTED]


def split(line: bytes) -> list[bytes]:
    """Words as the kernel sees them, written down letter by letter (lib/cmdline.c, next_arg)."""
    found, word, quoted = [], b"", False
    for number in line + b" ":
        letter = bytes([number])
        quoted ^= letter == b'"'
        if letter in b"\t\n\v\f\r \xa0" and not quoted:
            found += [word] if word else []
            word = b""
        else:
            word += letter
    return found + ([word.removesuffix(b" ")] if word else [])


def turns_off(word: bytes) -> bool:
    """What would undo ours."""
    name, _, value = word.replace(b'"', b"").replace(b"-", b"_").partition(b"=")
    parts = value.split(b",")
    return (name == b"cgroup_disable" and b"memory" in parts) or (
        name == b"cgroup_memory" and b"0" in parts
    )


@given(FILES, st.booleans())
@example(b'cgroup_enable=memory cgroup_memory=1 y="a ', False)
def test_any_file_is_made_right_once_or_left(data: bytes, proved: bool) -> None:
    try:
        made = cmdline.add(data, WANTED, OFF, proved)
    except ValueError as error:
        assert str(error), "a reason"
        return
    first, _, rest = made.partition(b"\n")
    text = data.removeprefix(b"\xef\xbb\xbf")
    old, _, old_rest = (text.lstrip() if proved else text).partition(b"\n")
    assert rest == (old_rest if old_rest.strip() else b""), "what the firmware ignores stays"
    words = split(first)
    kept = iter(words)
    # White space around the line goes, also where a quote is open.
    assert all(word in kept for word in split(old.rstrip())), "no word is lost or moved"
    assert len(words) <= len(split(old)) + len(WISHED), "and none but ours is new"
    stop = [at for at, word in enumerate(words) if word == b"--" or word.startswith(b"systemd.run")]
    before = words[: stop[0]] if stop else words
    undone = max((at for at, word in enumerate(before) if turns_off(word)), default=-1)
    assert all(word in before[undone + 1 :] for word in WISHED)
    init = words.index(b"--") if b"--" in words else len(words)
    assert not any(turns_off(word) for word in words[len(before) : init])
    assert cmdline.add(made, WANTED, OFF) == made, "a second time changes nothing"


@given(FILES)
def test_a_file_is_known_by_the_kernel_that_read_it(data: bytes) -> None:
    words = cmdline.words(data)
    told = DEVICE_TREE + b" ".join(words)
    ours = all(word in WISHED for word in words)
    assert cmdline.was_read(told, data, WANTED) is not ours
    assert not cmdline.was_read(told + b" more=1", data, WANTED)


@given(st.integers(0, 2100), st.integers(0, 2100))
def test_no_line_grows_over_what_the_kernel_reads(
    tmp_path_factory: pytest.TempPathFactory, before: int, length: int
) -> None:
    root = tmp_path_factory.mktemp("long")
    line = b"r=" + b"a" * length
    running = (b"d=" + b"b" * before + b" " + line)[: cmdline.LIMIT - 1]
    put(root, {f"{BOOT}/cmdline.txt": line, CONTROLLERS: "cpu\n", "/proc/cmdline": running})
    try:
        actions = list(Cgroup().plan(Facts(Machine(root)), Settings()))
    except Blocked as blocked:
        assert "has no room" in blocked.reason
        assert before + length + 5 + len(" ".join(WANTED)) + 1 >= cmdline.LIMIT
        return
    assert len(actions) == 3
    assert before + length + 5 + len(" ".join(WANTED)) + 1 < cmdline.LIMIT


# config.txt


def settings(config: str, model: str = "Raspberry Pi 4 Model B Rev 1.5", **files: str) -> ConfigTxt:
    """config.txt on a board; ``files`` are others, by their names without ending."""
    others = {f"{name}.txt": text for name, text in files.items()}
    return ConfigTxt({"config.txt": config, **others}.get, model, "10000000deadbeef")


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("Raspberry Pi Model B Plus Rev 1.2", "pi1"),
        ("Raspberry Pi 2 Model B Rev 1.1", "pi2"),
        ("Raspberry Pi 3 Model B Rev 1.2", "pi3"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "pi3+ pi3"),
        ("Raspberry Pi 3 Model A Plus Rev 1.0", "pi3+ pi3"),
        ("Raspberry Pi 4 Model B Rev 1.5", "pi4"),
        ("Raspberry Pi 400 Rev 1.0", "pi400 pi4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "pi5"),
        ("Raspberry Pi 500 Rev 1.0", "pi500 pi5"),
        ("Raspberry Pi Compute Module 3 Plus Rev 1.0", "cm3 pi3"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "cm4 pi4"),
        ("Raspberry Pi Compute Module 4S Rev 1.0", "cm4s pi4"),
        ("Raspberry Pi Compute Module 5 Rev 1.0", "cm5 pi5"),
        ("Raspberry Pi Zero Rev 1.3", "pi0"),
        ("Raspberry Pi Zero W Rev 1.1", "pi0w pi0"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "pi02 pi0"),
    ],
)
def test_the_filters_of_a_board(model: str, names: str) -> None:
    assert filters(model) == tuple(names.split())
    for name in {each for _, line in BOARDS for each in line.split()}:
        read = settings(f"[{name}]\ncmdline=mine.txt\n", model).values
        assert (read.get("cmdline") == "mine.txt") is (name in names.split())


@pytest.mark.parametrize("model", ["", "Raspberry Pi 9 Rev 1", "QEMU Virtual Machine", "Radxa 4"])
def test_of_an_unknown_board_no_filter_is_sure(model: str) -> None:
    read = settings("[pi4]\na=1\n[all]\nb=2\n", model)
    assert (read.values, read.possible) == ({"b": "2"}, {"a": ["1"]})


@pytest.mark.parametrize(
    ("config", "sure", "possible"),
    [
        ("a=1\na=2\n", "2", []),
        ("#a=1\n", None, []),
        (" a=1 \r\n", "1", []),
        ("\ufeffa=1\n", "1", []),
        ("A=1\n", None, []),
        ("a = 1\n", None, []),
        ('a="x y"\n', '"x y"', []),
        ("a=1 # why\n", "1 # why", []),
        ("a=" + "1" * 200, "1" * 96, []),
        ("[none]\na=1\n", None, []),
        ("[none]\n[all]\na=1\n", "1", []),
        ("[none]\n[pi4]\na=1\n", None, ["1"]),
        ("[tryboot]\na=1\n", None, []),
        ("[tryboot]\n[pi4]\na=1\n", None, []),
        ("[tryboot]\na=1\n[all]\na=2\n", "2", []),
        ("[pi5]\n[pi4]\na=1\n", "1", []),
        ("[pi4]\n[pi5]\na=1\n", None, []),
        ("[pi4]\n[0xdeadbeef]\na=1\n", "1", []),
        ("[0x10000000deadbeef]\na=1\n", "1", []),
        ("[0x1]\na=1\n", None, []),
        ("[gpio4=1]\na=1\n", None, ["1"]),
        ("[gpio4=1]\n[pi5]\na=1\n", None, []),
        ("[EDID=VSC-TD2220]\na=1\n[all]\na=2\n", "2", ["1"]),
        ("[board-type=0x11]\na=1\n", None, ["1"]),
        ("[boot_partition=2]\na=1\n[boot_partition=3]\na=2\n", None, ["1", "2"]),
        ("include more.txt\n", "m", []),
        ("a=1\ninclude more.txt\n", "m", []),
        ("include more.txt\na=1\n", "1", []),
        ("[pi5]\ninclude more.txt\n[all]\n", None, []),
        ("include filter.txt\na=1\n", None, []),
        ("[pi5]\ninclude all.txt\na=1\n", None, []),
        ("include gone.txt\na=1\n", "1", []),
        ("include config.txt\na=1\n", "1", []),
        ("include=more.txt\n", None, []),
    ],
)
def test_the_rules_of_config_txt(config: str, sure: str | None, possible: list[str]) -> None:
    read = settings(config, more="a=m\n", filter="[pi5]\n", all="[all]\n")
    assert (read.values.get("a"), read.possible.get("a", [])) == (sure, possible)


def test_the_eeprom_of_a_raspberry_pi_5_may_know_no_include() -> None:
    read = settings("include more.txt\n", "Raspberry Pi 5 Model B Rev 1.0", more="a=1\n")
    assert (read.values, read.possible) == ({}, {"a": ["1"]})


@given(st.text(), st.text())
def test_any_config_is_read(config: str, model: str) -> None:
    ConfigTxt({"config.txt": config}.get, model, model)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/../../etc/passwd", ".", "a\0b", "a/../.."])
def test_no_name_leads_out_of_the_partition(name: str, tmp_path: Path) -> None:
    put(tmp_path, {f"{BOOT}/config.txt": f"cmdline={name}\ninclude {name}\n",
                   "/etc/passwd": "root\n", f"{BOOT}/cmdline.txt": "a\n"})  # fmt: skip
    with pytest.raises(LookupError) as caught:
        bootfiles.find(Facts(Host(tmp_path)))
    assert f"names {name} for it, which is not there" in str(caught.value)
