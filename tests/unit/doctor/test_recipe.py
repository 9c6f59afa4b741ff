"""The steps of kubeadm tutorials: each is answered in both languages, and with what is there."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from nodeagent import paths
from nodeagent.cli.main import main
from nodeagent.doctor import checkup, recipe
from nodeagent.errors import Usage
from nodeagent.status import model
from tests.guide.commands import visible
from tests.support.machine import Machine, put
from tests.support.statuses import FULL

TEXT = resources.files("nodeagent.doctor").joinpath("recipe.yaml").read_text("utf-8")
PARTS = yaml.safe_load(TEXT)
STEPS: list[dict[str, Any]] = [step for part in PARTS for step in part["steps"]]
SOURCE = Path(paths.__file__).parent


def test_each_step_is_answered_in_both_languages() -> None:
    assert len(STEPS) >= 63, "as many as the tutorials have"
    told = [part["part"] for part in PARTS] + [step["agent"] for step in STEPS]
    told += [step["what"] for step in STEPS if "what" in step]
    for one in told:
        assert one.keys() == {"en", "pt"} and all(one.values()), one
    for step in STEPS:
        assert ("typed" in step) != ("what" in step), step
        assert step.keys() <= {"typed", "what", "agent", "checks", "look"}
        assert step.get("checks") or step.get("look"), f"nothing shows it: {step}"


def test_what_shows_it_is_there() -> None:
    """The doctor's checks, our commands, and the files that the agent writes."""
    checks = {check.name for check in checkup.checks()}
    assert {name for step in STEPS for name in step.get("checks", ())} <= checks
    commands = {one.path for one in visible()}
    typed = re.findall(r"nodeagent ((?:fleet )?[a-z-]+)(?=[` ]|$)", TEXT, re.MULTILINE)
    assert {word for word in typed if word not in {"is", "no"}} <= commands
    source = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    for path in re.findall(r"/[\w./-]*nodeagent[\w./-]*", TEXT):
        folder, _, name = path.rstrip(".,").rpartition("/")
        assert path.rstrip(".,") in source or (folder in source and name.split("-")[0] in source)


@pytest.mark.parametrize("language", recipe.LANGUAGES)
def test_on_a_node_it_says_how_it_is_there(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"/proc/swaps": "Filename Type Size Used Priority\n/swap file 1 1 -2\n"})
    put(tmp_path, {paths.STATUS: model.dump(FULL)})
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: Machine(tmp_path))
    said = CliRunner().invoke(main, ["explain", f"--recipe={language}"])
    assert said.exit_code == 0, said.output
    label = {"en": "here:", "pt": "aqui:"}[language]
    swap = said.output.partition("$ sudo swapoff -a")[2].partition("$ ")[0]
    assert f"{label:<11} warn: swap: to do: " in swap
    assert all(one.text.split()[0] in said.output for one in recipe.read(language))
    assert "`network.cni` is flannel here" in said.output or "é flannel aqui" in said.output
    assert max(map(len, said.output.splitlines())) <= 110


def test_elsewhere_it_says_that_it_is_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: Machine(tmp_path))
    said = CliRunner().invoke(main, ["explain", "--recipe"]).output
    assert said.startswith("This machine is no node of a fleet") and "here:" not in said


def test_a_code_and_the_recipe_are_not_told_at_once() -> None:
    done = CliRunner().invoke(main, ["explain", "--recipe=pt", "E100"])
    assert done.exit_code == Usage.exit_code and "Leave one of the two out" in done.output
