"""Seeded defects: each is a small patch to the product, and a named test that it must turn red.

Patches are applied to copies of the checkout; on a copy without any the same tests must be green.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Defect:
    """``name`` is that of its patch in ``folder``; ``what`` says it for people."""

    name: str
    what: str
    test: str
    folder: Path


@dataclass(frozen=True)
class Verdict:
    """A defect, and whether its test turned red; ``why`` says what else happened."""

    defect: Defect
    caught: bool
    why: str = ""


def _copy(folder: Path) -> Path:
    """The product and its tests, as they are in the checkout now."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=CHECKOUT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        source, target = CHECKOUT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder


def _pytest(copy: Path, *tests: str) -> tuple[int, str]:
    """Exit status (pytest docs, "Exit codes": 1, tests failed) and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0", *tests],
        cwd=copy, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return done.returncode, f"{done.stdout}\n{done.stderr}".strip()


def green(defects: Sequence[Defect]) -> str:
    """On the true tree all the named tests pass; else what was said."""
    with tempfile.TemporaryDirectory() as folder:
        tests = dict.fromkeys(defect.test for defect in defects)
        status, said = _pytest(_copy(Path(folder)), *tests)
        return "" if status == 0 else said[-3000:]


def verdict(defect: Defect) -> Verdict:
    """Seed one defect and run its test."""
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(Path(folder))
        patch = defect.folder / f"{defect.name}.patch"
        applied = subprocess.run(
            ["git", "apply", "--directory", "", str(patch)],
            cwd=copy, capture_output=True, text=True, check=False,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)},
        )  # fmt: skip
        if applied.returncode:
            return Verdict(defect, False, f"{patch.name} no longer applies: {applied.stderr}")
        status, said = _pytest(copy, defect.test)
        # The status alone does not tell it: a run also fails where the machine was changed.
        caught = status == 1 and "\nFAILED " in said
        return Verdict(defect, caught, "" if caught else said[-500:])
