"""The namespaces of tests: a command that would run in the caller's own is not run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import namespaces

TESTS = Path(__file__).parents[1]
HELPER = TESTS / "support" / "namespaces.py"
WORDS = re.compile(r"unshare|nsenter|netns\W+(exec|add)")


@pytest.mark.processes
@pytest.mark.parametrize("kind", namespaces.OPTIONS)
def test_a_command_runs_in_a_namespace_of_its_own(kind: str) -> None:
    command = namespaces.apart("readlink", f"/proc/self/ns/{kind}", kinds=(kind,))
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{kind}:[") and said.strip() != os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.processes
def test_a_namespace_that_is_not_made_yet_is_not_entered(tmp_path: Path) -> None:
    """Before unshare(1) has made the new one, its process is still in the caller's."""
    command = namespaces.entering(os.getpid(), "touch", str(tmp_path / "ran"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == namespaces.REFUSED and "the command was not run" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_all_that_enter_a_network_see_the_same_and_no_other_does() -> None:
    show = ("ip", "-o", "link", "show", "type", "bridge")
    with namespaces.network() as enter:
        subprocess.run(enter("ip", "link", "add", "mine", "type", "bridge"), check=True)
        there = subprocess.run(enter(*show), capture_output=True, text=True, check=True).stdout
    assert "mine" in there
    assert "mine" not in subprocess.run(show, capture_output=True, text=True, check=True).stdout


def test_nothing_else_makes_or_enters_namespaces() -> None:
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text()
        if path in (HELPER, Path(__file__)) or not WORDS.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.List | ast.Tuple):
                # The words of a command line stand beside each other in a list.
                words = [str(one.value) for one in node.elts if isinstance(one, ast.Constant)]
                if WORDS.search(" ".join(words)):
                    found.append(f"{path.relative_to(TESTS)}:{node.lineno}")
    assert not found, f"use tests/support/namespaces.py in {', '.join(found)}"
