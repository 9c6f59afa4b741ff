"""Linters are tests like others. A tool that is not there is a failure, not a pass."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.tools import tool

CHECKOUT = Path(__file__).parents[2]

pytestmark = pytest.mark.processes


def check(*command: str, cwd: Path = CHECKOUT) -> None:
    """Run a linter; what it says is the failure."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        pytest.fail(f"{' '.join(command[:3])} …\n{said[-6000:]}", pytrace=False)


def files() -> list[Path]:
    """Every file of the project: known to git, or new and not ignored."""
    listed = subprocess.run(
        [tool("git", "Install it with: apt-get install git"), "ls-files", "-co",
         "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for name in listed.stdout.splitlines() if (path := CHECKOUT / name).is_file()]


def test_ruff() -> None:
    check(tool("ruff", "Run `make venv`."), "check", "nodeagent", "tests")


def test_format() -> None:
    check(tool("ruff", "Run `make venv`."), "format", "--diff", "nodeagent", "tests")


def test_types() -> None:
    check(tool("mypy", "Run `make venv`."), "--strict", "nodeagent", "tests")


def test_shell() -> None:
    command = tool("shellcheck", "Install it with: apt-get install shellcheck")
    shell = []
    for path in files():
        with path.open("rb") as file:
            first = file.readline(80).decode("ascii", "replace").split()
        if first[:1] and first[0].startswith("#!") and first[-1].split("/")[-1] in SHELLS:
            shell.append(str(path.relative_to(CHECKOUT)))
    assert shell, "the search for shell scripts found none"
    check(command, "--external-sources", *shell)


SHELLS = ("sh", "bash", "-eu", "-e")
