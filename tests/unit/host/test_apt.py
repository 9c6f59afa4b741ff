"""What apt and dpkg said, told to people: recordings of real messages, one table."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent import errors
from nodeagent.host.apt import actions
from nodeagent.host.apt.actions import Apt, AptInstall, AptUpdate
from nodeagent.host.host import Result
from tests.support.machine import Machine, put

RECORDED = yaml.safe_load((Path(__file__).parent / "apt_messages.yaml").read_text())
OURS = "/etc/apt/sources.list.d/nodeagent-kubernetes.sources"
PPA = {"status": 100, "err": "E: The repository 'http://ppa.example x Release' does not have a"
       " Release file.\n"}  # fmt: skip


def command(*words: str) -> str:
    """A command line as Machine's answers have it."""
    return " ".join(words)


ONLY_OURS = command(*actions.UPDATE, "-o", f"Dir::Etc::sourcelist={OURS}", *actions.ONLY)


@pytest.mark.parametrize("case", RECORDED, ids=lambda c: f"{c['case']} apt {c['apt']}")
def test_every_recorded_failure_has_a_plain_reason(
    case: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, {"/proc/812/comm": "bash\n"})
    caplog.set_level(logging.INFO, "nodeagent")
    result = Result(case["status"], case["out"], case["err"])
    error = actions.failure(Machine(tmp_path), ("apt-get", "update"), result)
    assert type(error) is getattr(errors, case["error"])
    assert case["reason"] in error.reason
    assert "{" not in error.reason.replace("{source", "") and error.reason.endswith(".")
    assert error.remedy.endswith(".")
    raw = next(line for line in case["err"].splitlines() if line[:2] in ("E:", "W:", "dp"))
    assert raw in caplog.text, "what apt said stays to be read"


def test_what_no_rule_knows_is_shown_as_it_is(tmp_path: Path) -> None:
    result = Result(100, "", "E: Something new went wrong\n")
    error = actions.failure(Machine(tmp_path), ("apt-get", "update", "-q"), result)
    assert error.reason == "`apt-get update` ended with status 100: E: Something new went wrong."


def test_a_command_without_an_end_is_told(tmp_path: Path) -> None:
    result = Result(124, "", "apt-get: no end within 3600 s")
    error = actions.failure(Machine(tmp_path), ("apt-get", "install"), result)
    assert "`apt-get install` did not come to an end" in error.reason


def test_a_stale_source_of_somebody_else_does_not_stop_us(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path, {command(*actions.UPDATE): PPA, ONLY_OURS: ""})
    AptUpdate((OURS,)).do(machine)
    assert machine.ran == [command(*actions.UPDATE), ONLY_OURS]
    assert "Going on without some of the package lists" in caplog.text
    assert "http://ppa.example" in caplog.text


def test_our_own_source_must_be_read(tmp_path: Path) -> None:
    ours = {"status": 100, "err": "E: Failed to fetch http://k8s.example/InRelease  503  No\n"}
    machine = Machine(tmp_path, {command(*actions.UPDATE): PPA, ONLY_OURS: ours})
    with pytest.raises(errors.FetchFailed, match=r"cannot serve http://k8s\.example"):
        AptUpdate((OURS,)).do(machine)


def test_an_update_that_nobody_else_disturbs_is_one_command(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {command(*actions.UPDATE): ""})
    AptUpdate((OURS,)).do(machine)
    assert machine.ran == [command(*actions.UPDATE)]


def test_where_a_package_is_missing_the_lists_say_why(tmp_path: Path) -> None:
    lacking = {"status": 100, "err": "E: Unable to locate package iptables\n"}
    install = command(*actions.REPORTING, *actions.INSTALL, "iptables")
    debian = {"status": 100, "err": "E: Failed to fetch http://deb.example/x  Could not resolve"
              " 'deb.example'\n"}  # fmt: skip
    with pytest.raises(errors.FetchFailed, match=r"does not know the host of http://deb\.example"):
        AptInstall(("iptables",)).do(
            Machine(tmp_path, {install: lacking, command(*actions.UPDATE): debian})
        )
    with pytest.raises(errors.CommandFailed, match="has the package iptables"):
        AptInstall(("iptables",)).do(
            Machine(tmp_path, {install: lacking, command(*actions.UPDATE): ""})
        )


def test_a_lock_is_a_wait_and_no_failure(tmp_path: Path) -> None:
    held = {"status": 2, "err": "dpkg: error: dpkg frontend lock was locked by another process"
            " with pid 7\n"}  # fmt: skip
    action = Apt(("dpkg", "--configure", "-a"), accept=(0, 1))
    with pytest.raises(errors.Blocked, match=r"another program \(unknown, process 7\)"):
        action.do(Machine(tmp_path, {"dpkg --configure -a": held}))
