"""The engine: plan, act, plan again, one reboot, never the same one twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked, CommandFailed, NotConverged
from nodeagent.host.actions import Action, Reboot, Run, Write
from nodeagent.host.facts import Facts
from nodeagent.statefile import StateFile
from nodeagent.steps import engine
from nodeagent.steps.step import Step
from tests.support.machine import Machine, put

BOOT = "/proc/sys/kernel/random/boot_id"
SETTINGS = Settings()


@dataclass(frozen=True)
class Wants(Step):
    """A double of a step: wants a file with ``text``, and a reboot until the kernel says on."""

    text: str = ""
    reboot: bool = False
    stubborn: bool = False
    name: str = "wants"
    title: str = "Want something"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        if self.stubborn or (self.text and facts.text("/file") != self.text):
            yield Write("/file", self.text.encode())
        if self.text == "wait":
            raise Blocked("Not yet.", "Wait.")
        if self.reboot and not facts.exists("/proc/on"):
            yield Reboot("wants", "because", "Asked, rebooted, still off.", "Look.")


def run(step: Wants, host: Machine) -> list[Reboot]:
    return engine.run([step], host, SETTINGS, StateFile(host), lambda _: None)


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    put(tmp_path, {BOOT: "first\n"})
    return Machine(tmp_path)


def test_it_acts_until_the_step_holds(host: Machine) -> None:
    told: list[tuple[str, str | None]] = []

    def report(progress: engine.Progress) -> None:
        told.append((progress.state, progress.action.show() if progress.action else None))

    assert engine.run([Wants("x")], host, SETTINGS, StateFile(host), report) == []
    assert host.text("/file") == "x"
    assert told == [
        ("planning", None), ("acting", "write /file (1 bytes, mode 0644)"), ("done", None),
    ]  # fmt: skip


def test_a_step_that_holds_does_nothing(host: Machine) -> None:
    assert run(Wants(), host) == [] and host.names("/") == ["proc"]


def test_a_step_that_never_holds_is_named(host: Machine) -> None:
    with pytest.raises(NotConverged, match="Step wants does not hold"):
        run(Wants("x", stubborn=True), host)


def test_blocked_half_way_does_nothing_at_all(host: Machine) -> None:
    with pytest.raises(Blocked):
        run(Wants("wait"), host)
    assert host.text("/file") is None


def test_one_reboot_and_then_the_verdict(host: Machine) -> None:
    step = Wants("x", reboot=True)
    reboots = run(step, host)
    assert [r.token for r in reboots] == ["wants"]
    engine.ask_reboot(reboots, host, StateFile(host))
    assert run(step, host) == reboots, "the same boot still goes on to the same reboot"
    put(host.root, {BOOT: "second\n"})
    with pytest.raises(NotConverged, match="Asked, rebooted, still off"):
        run(step, host)
    put(host.root, {"/proc/on": ""})
    assert run(step, host) == []


def test_what_took_once_may_be_asked_for_again_after_it_was_undone(host: Machine) -> None:
    step = Wants(reboot=True)
    engine.ask_reboot(run(step, host), host, StateFile(host))
    put(host.root, {BOOT: "second\n", "/proc/on": ""})
    assert run(step, host) == []
    put(host.root, {BOOT: "third\n", "/proc/on": None})
    assert [r.token for r in run(step, host)] == ["wants"]


def test_an_old_reboot_is_forgotten_only_when_its_step_holds(host: Machine) -> None:
    step = Wants(reboot=True)
    engine.ask_reboot(run(step, host), host, StateFile(host))
    run(Wants(name="other"), host)
    assert StateFile(host).values["reboots"] == {"wants": "first"}


def test_plan_changes_nothing_and_shows_what_blocks(host: Machine) -> None:
    planned = engine.plan([Wants("wait"), Wants("x")], host, SETTINGS)
    assert [len(actions) for _, actions, _ in planned] == [1, 1]
    assert [str(error) for _, _, error in planned if error] == ["Not yet. Wait."]
    assert host.names("/") == ["proc"] and host.ran == []


def test_plan_survives_a_file_that_cannot_be_read(host: Machine) -> None:
    (host.root / "file").mkdir()
    ((_, _, error),) = engine.plan([Wants("x")], host, SETTINGS)
    assert isinstance(error, Blocked) and "/file cannot be read" in error.reason


def test_a_failing_command_says_which_and_why(tmp_path: Path) -> None:
    answers = {"apt-get update": {"status": 100, "err": "a\nE: Failed to fetch x\n"}}
    with pytest.raises(CommandFailed, match=r"status 100: a / E: Failed to fetch x"):
        Run(("apt-get", "update")).do(Machine(tmp_path, answers))
    Run(("apt-get", "update"), accept=(0, 100)).do(Machine(tmp_path, answers))
