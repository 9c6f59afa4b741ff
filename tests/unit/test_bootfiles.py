"""Adding to cmdline.txt, and finding the file, by generated and odd cases. The usual ones are
data: steps/cgroup/."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.host.bootfiles import BootFiles, add_arguments, find
from nodeagent.host.facts import Facts
from nodeagent.steps.cgroup import OFF, WANTED
from tests.unit.machine import Machine, put

WORDS = st.sampled_from(
    [b"root=/dev/a", b"quiet", b"cgroup_disable=memory", b"cgroup_disable=cpu,memory",
     b"cgroup_enable=memory", b"cgroup_memory=1", b"cgroup_memory=0", b"--", b"\xe4\xff",
     b"systemd.run=/boot/firstrun.sh", b"systemd.run_success_action=reboot", b'x="a b"']
)  # fmt: skip
LINES = st.lists(st.lists(WORDS, max_size=8).map(b" ".join), max_size=3).map(b"\n".join)
ENDS = st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"])


@given(LINES, ENDS, st.booleans())
def test_any_file_is_made_right_once(lines: bytes, end: bytes, mark: bool) -> None:
    data = (b"\xef\xbb\xbf" if mark else b"") + lines + end
    try:
        made = add_arguments(data, WANTED, OFF)
    except ValueError:
        assert not lines.strip()
        return
    first = made.split(b"\n")[0]
    words = first.split(b" ")
    stop = [at for at, word in enumerate(words) if word == b"--" or word.startswith(b"systemd.run")]
    before = words[: stop[0]] if stop else words
    undone = max((at for at, w in enumerate(before) if w.decode("latin-1").split("=")[0] in
                  ("cgroup_disable",) or w == b"cgroup_memory=0"), default=-1)  # fmt: skip
    for word in WANTED:
        assert word.encode() in before[undone + 1 :]
    assert add_arguments(made, WANTED, OFF) == made, "a second time changes nothing"
    assert b"\r" not in made and made.endswith(b"\n") and not made.startswith(b"\xef\xbb\xbf")
    old = next(line for line in lines.replace(b"\r", b"").split(b"\n") if line.strip()).split()
    assert [w for w in words if w in old or w not in (b"cgroup_enable=memory", b"cgroup_memory=1")]
    kept = iter(words)
    assert all(word in kept for word in old), "no word is lost or moved"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "is empty"), (b"\n \r\n", "is empty"), (b"\0" * 512, "no text")],
)
def test_damaged_files_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        add_arguments(data, WANTED, OFF)


PI4, PI5 = "Raspberry Pi 4 Model B Rev 1.5", "Raspberry Pi 5 Model B Rev 1.0"
B = "/boot/firmware/"


@pytest.mark.parametrize(
    ("config", "model", "found"),
    [
        ("", PI4, "cmdline.txt"),
        ("cmdline=mine.txt\n", PI4, "mine.txt"),
        ("cmdline=a.txt\ncmdline=mine.txt\n", PI4, "mine.txt"),
        ("#cmdline=mine.txt\n", PI4, "cmdline.txt"),
        ("[pi5]\ncmdline=mine.txt\n", PI5, "mine.txt"),
        ("[pi5]\ncmdline=mine.txt\n", PI4, "cmdline.txt"),
        ("[pi5]\n[all]\ncmdline=mine.txt\n", PI4, "mine.txt"),
        ("[pi5]\ngpu=1\n[pi4]\ncmdline=mine.txt\n", PI4, "mine.txt"),
        ("[pi4]\ncmdline=mine.txt\n", "Raspberry Pi 400 Rev 1.0", "mine.txt"),
        ("[cm4]\ncmdline=mine.txt\n", "Raspberry Pi Compute Module 4 Rev 1.1", "mine.txt"),
        ("[pi3+]\ncmdline=mine.txt\n", "Raspberry Pi 3 Model B Plus Rev 1.3", "mine.txt"),
        ("[pi02]\ncmdline=mine.txt\n", "Raspberry Pi Zero 2 W Rev 1.0", "mine.txt"),
        ("[none]\ncmdline=mine.txt\n", PI4, "cmdline.txt"),
        ("[tryboot]\nos_prefix=new/\n", PI4, "cmdline.txt"),
        ("[0x1234]\ncmdline=mine.txt\n", PI4, "cmdline.txt"),
        ("os_prefix=current/\n", PI4, "current/cmdline.txt"),
        ("os_prefix=current/\ncmdline=/mine.txt\n", PI4, "mine.txt"),
        ("os_prefix=gone/\n", PI4, "cmdline.txt"),
        ("include more.txt\n", PI4, "mine.txt"),
        ("\ufeffcmdline=mine.txt\r\n", PI4, "mine.txt"),
        ("cmdline=../../etc/passwd\n", PI4, "cmdline.txt"),
        ("include config.txt\n", PI4, "cmdline.txt"),
    ],
)
def test_the_firmwares_rules(config: str, model: str, found: str, tmp_path: Path) -> None:
    put(tmp_path, {
        f"{B}config.txt": config, f"{B}more.txt": "cmdline=mine.txt\n",
        f"{B}cmdline.txt": "a\n", f"{B}mine.txt": "b\n", f"{B}current/cmdline.txt": "c\n",
        "/proc/device-tree/model": model + "\0", "/etc/passwd": "root\n",
    })  # fmt: skip
    assert find(Facts(Machine(tmp_path, live=False))) == BootFiles(B + found)


def test_ubuntu_during_a_trial_boot_edits_both(tmp_path: Path) -> None:
    put(tmp_path, {
        f"{B}config.txt": "[all]\nos_prefix=current/\n[tryboot]\nos_prefix=new/\n",
        f"{B}current/cmdline.txt": "root=a\n", f"{B}new/cmdline.txt": "root=b\n",
        f"{B}new/state": "trying", "/proc/cmdline": "x root=b\n",
    })  # fmt: skip
    found = find(Facts(Machine(tmp_path)))
    assert found == BootFiles(f"{B}current/cmdline.txt", (f"{B}new/cmdline.txt",))
