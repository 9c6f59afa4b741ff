"""The look at the machine before and after the tests, tried where a test does change something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import namespaces, untouched

pytestmark = pytest.mark.processes

CHANGES = """
import subprocess

def test_rule():
    subprocess.run(["nft", "add", "table", "ip", "left"], check=True)

def test_link():
    subprocess.run(["ip", "link", "add", "br7", "type", "bridge"], check=True)
"""


def test_a_run_that_changed_the_machine_fails_and_says_what(tmp_path: Path) -> None:
    """Here the machine's network is a namespace of the test's; workers make the changes."""
    (tmp_path / "test_changes.py").write_text(CHANGES)
    run = (
        "env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",
        sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n", "1", "-p", "no:cacheprovider",
        "-p", "tests.support.untouched", f"--rootdir={tmp_path}", str(tmp_path),
    )  # fmt: skip
    done = subprocess.run(
        namespaces.apart(*run, kinds=("net",)),
        capture_output=True, text=True, cwd=untouched.CHECKOUT, timeout=120,
    )  # fmt: skip
    assert "2 passed" in done.stdout and done.returncode == pytest.ExitCode.TESTS_FAILED
    came = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert came == ["+ network: br7 DOWN", "+ packet filter: table ip left"]
