"""What a node shows without being asked, and what it takes back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nodeagent import paths
from nodeagent.agent import package_progress, surfaces
from nodeagent.agent.reporter import Reporter
from nodeagent.errors import Blocked, CommandFailed
from nodeagent.host import led
from nodeagent.host.apt.actions import PROGRESS, AptInstall
from nodeagent.host.host import Clock
from nodeagent.status import model, schema
from tests.support.machine import Machine, put
from tests.support.tools import tool

CHECKOUT = Path(__file__).parents[3]
FILE = f"/boot/firmware/{surfaces.NAME}"
LED = "/sys/class/leds/ACT"
TRIGGERS = "none rc-feedback [mmc0] timer heartbeat default-on\n"
BOARD = {
    "/boot/firmware/config.txt": "",
    surfaces.AGETTY: "",
    f"{LED}/trigger": TRIGGERS,
    f"{LED}/delay_on": "",
    f"{LED}/delay_off": "",
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A double of a Pi with a screen, an LED and a boot partition."""
    put(tmp_path, BOARD)
    return Machine(tmp_path)


def test_the_boot_partition_tells_a_laptop_what_the_matter_is(machine: Machine) -> None:
    board = Reporter(machine)
    board.enter("preparing", "Looking")
    assert not machine.exists(FILE), "within minutes that would be wrong"
    board.trouble(CommandFailed("apt-get ended.", "Look at the network."), failed=True)
    text = machine.text(FILE) or ""
    assert "Problem (E101): apt-get ended.\r\nDo: Look at the network." in text


def test_the_boot_partition_is_written_once_for_a_trouble_that_stays(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = machine.write

    def noted(name: str, *more: Any) -> None:
        written.append(name)
        write(name, *more)

    monkeypatch.setattr(machine, "write", noted)
    board = Reporter(machine)
    for _ in range(50):
        board.enter("preparing", "Looking for what is left to do")
        board.trouble(CommandFailed("apt-get ended.", "Wait."), failed=True)
    assert written.count(FILE) == 1


def test_the_keeper_writes_nothing_of_it(machine: Machine) -> None:
    board = Reporter(machine)
    board.enter("ready", "Part of the cluster")
    machine.remove(FILE)
    kept = Reporter(machine, model.parse(machine.read(paths.STATUS) or b""))
    for _ in range(9):
        kept.trouble(Blocked("The kubelet does not answer.", "Wait."), failed=False)
        kept.enter("ready", "Part of the cluster")
        kept.set(address="10.0.0.9", page=model.page("10.0.0.9", True))
    # An address that changed is worth one.
    assert (machine.text(FILE) or "").count("10.0.0.9") == 1


def test_no_boot_partition_no_screen_no_led(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    shown = surfaces.Surfaces(machine)
    for phase in model.PHASES:
        shown.show({**model.empty(), "phase": phase})
    assert not list(tmp_path.rglob("*")) and not machine.ran


def test_the_console_shows_plain_text_only(machine: Machine) -> None:
    shown: schema.Status = {**model.empty(), "phase": "failed", "error": {
        "code": "E101", "reason": "it said \x1b[2J\\n and ü.", "remedy": "Look."}}  # fmt: skip
    surfaces.Surfaces(machine).show(shown)
    text = machine.text(surfaces.ISSUE) or ""
    assert "it said ?[2J\\\\n and ?." in text and re.fullmatch(r"[\n -~]+", text)
    assert machine.ran == [f"{surfaces.AGETTY} --reload"]


@pytest.mark.processes
def test_agetty_reads_that_folder() -> None:
    """Which folders it reads is compiled into it."""
    program = Path(tool("agetty", "Install it with: apt-get install util-linux")).read_bytes()
    assert b"/etc/issue.d\0" in program and surfaces.LINK.startswith("/etc/issue.d/")
    assert b".issue\0" in program and surfaces.LINK.endswith(".issue")
    said = subprocess.run(["agetty", "--help"], capture_output=True, text=True, check=False).stdout
    assert "--reload" in said


@pytest.mark.parametrize("phase", list(model.PHASES))
def test_the_led_blinks_as_the_table_says(machine: Machine, phase: str) -> None:
    led.show(machine, phase)
    trigger, on, off = led.PATTERNS.get(phase, (TRIGGERS, 0, 0))
    # The double keeps what was written over the beginning of what was there.
    assert (machine.text(f"{LED}/trigger") or "").startswith(trigger)
    if trigger == "timer":
        told = (machine.text(f"{LED}/delay_on"), machine.text(f"{LED}/delay_off"))
        assert told == (str(on), str(off))
    table = (CHECKOUT / "docs" / "surfaces.md").read_text()
    assert re.search(rf"^\|[^|]*`{phase}`", table, re.MULTILINE)


def test_the_led_is_given_back(machine: Machine) -> None:
    led.show(machine, "preparing")
    put(machine.root, {f"{LED}/trigger": TRIGGERS.replace("[mmc0]", "mmc0")})
    led.show(machine, "joining")
    led.show(machine, "ready")
    assert (machine.text(f"{LED}/trigger") or "").startswith("mmc0")
    assert not machine.exists(led.BEFORE)


def test_an_led_without_such_a_trigger_is_left_alone(machine: Machine) -> None:
    put(machine.root, {f"{LED}/trigger": "[none] default-on\n"})
    led.show(machine, "preparing")
    assert machine.text(f"{LED}/trigger") == "[none] default-on\n"


def test_reset_takes_all_of_it_back(machine: Machine) -> None:
    Reporter(machine).trouble(CommandFailed("apt-get ended.", "Wait."), failed=True)
    assert machine.exists(FILE) and machine.exists(surfaces.ISSUE) and machine.exists(led.BEFORE)
    surfaces.withdraw(machine)
    assert not machine.exists("/etc/issue.d")
    assert not any(machine.exists(path) for path in (FILE, surfaces.ISSUE, led.BEFORE))


def test_apt_tells_how_far_an_installation_is() -> None:
    """Lines that the real apt 2.6 wrote (Debian 12), which unpacked and configured by turns."""
    recorded = (Path(__file__).parent / "apt-status").read_text()
    lines = recorded.splitlines(keepends=True)
    seen = [package_progress.parse("".join(lines[:end])) for end in range(len(lines) + 1)]
    assert seen[0] == {"kind": "packages", "text": "asking the mirrors", "done": 0, "total": 0}
    assert next(one for one in seen if one["text"] == "Retrieving file 7 of 12")["total"] == 0
    assert {one["total"] for one in seen if "Unpacking" in one["text"]} == {12}
    done = [one["done"] for one in seen]
    assert done == sorted(done) and done[-1] == 12
    half = package_progress.parse(recorded[:-20])
    assert half["done"] == 11 and half["text"] == "Configuring hello (amd64)"


def test_packages_that_were_here_already_count_when_they_are_begun() -> None:
    begun = "pmstatus:dpkg-exec:0.0000:Running dpkg\n"
    assert package_progress.parse(begun)["total"] == 0
    begun += "pmstatus:kubelet:9.0909:Unpacking kubelet (arm64)\n"
    assert package_progress.parse(begun)["total"] == 1


def test_the_progress_of_an_installation_is_shown(machine: Machine) -> None:
    class Done(Exception):
        """The watch has looked once."""

    def look(acting: AptInstall | None) -> Any:
        def sleep(_: float) -> None:
            raise Done

        machine.clock = Clock(now=machine.clock.now, sleep=sleep)
        board.acting = acting
        with pytest.raises(Done):
            package_progress.watch(machine, board)
        return board.values["progress"]

    board = Reporter(machine)
    put(machine.root, {PROGRESS: "pmstatus:kubelet:9.1:Unpacking kubelet (arm64)\n"})
    assert look(None) is None
    action = AptInstall(("kubelet",))
    assert look(action)["text"] == "Unpacking kubelet (arm64)"
    board.set(progress=None)
    board.acting = None
    board.installing(action, package_progress.parse(""))
    assert board.values["progress"] is None, "it has ended meanwhile"
