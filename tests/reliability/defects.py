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
PATCHES = Path(__file__).parent / "defects"
UNIT = "tests/unit"
FIRST_BOOT = f"{UNIT}/test_powercut.py::test_a_cut_anywhere_of_the_first_boot"
WAY_OUT = f"{UNIT}/test_powercut.py::test_a_cut_anywhere_of_the_way_out"
WRITE = f"{UNIT}/test_durable.py::test_a_cut_leaves_the_old_or_the_new"
CARD = f"{UNIT}/fleet/test_trust.py::test_a_cut_at_every_write"


@dataclass(frozen=True)
class Defect:
    """``name`` is that of its patch in ``folder``; ``what`` says it for people."""

    name: str
    what: str
    test: str
    folder: Path = PATCHES


DEFECTS = (
    Defect("content-not-synced", "the durable write renames before the content is synced", WRITE),
    Defect("folder-not-synced", "the durable write does not sync the folder", WRITE),
    Defect("replaced-file-not-held", "on FAT the replaced file's place is given away", WRITE),
    Defect("naive-writer", "temporary file and rename, nothing synced", WRITE),
    Defect("cmdline-written-in-place", "cmdline.txt is overwritten, not replaced", FIRST_BOOT),
    Defect("imported-before-it-is", "the journal says imported before the keys are kept", CARD),
    Defect("scrubbed-before-kept", "the card is scrubbed before its keys are kept", CARD),
    Defect("formed-before-it-is", "the mark `formed` stands before kubeadm's files", FIRST_BOOT),
    Defect(
        "intent-forgotten-first", "that a node leaves its cluster is forgotten before it has left",
        f"{WAY_OUT}[a worker leaves and joins again]",
    ),
    Defect(
        "reset-forgotten-while-on", "a reset is forgotten before the agent is off",
        f"{WAY_OUT}[a worker is reset]",
    ),
    Defect(
        "reboot-recorded-afterwards", "the reboot is recorded after it was asked for",
        f"{UNIT}/test_powercut.py::test_a_kernel_that_does_not_listen_is_rebooted_once",
    ),
    Defect(
        "claim-recorded-late", "the claim to lead is announced and not in the journal",
        f"{UNIT}/test_agent.py::test_a_claim_is_in_the_journal_before_anyone_hears_it",
    ),
    Defect(
        "name-check-skipped", "a granted name goes to whoever asks last",
        f"{UNIT}/fleet/test_broker.py::test_names_belong_to_the_first_key",
    ),
    Defect(
        "newest-word-displaces", "a spoofed record displaces the true candidate",
        f"{UNIT}/fleet/test_pool.py::test_a_flood_from_one_address_displaces_nobody",
    ),
)  # fmt: skip


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


def green(defects: Sequence[Defect] = DEFECTS) -> str:
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
        return Verdict(defect, status == 1, "" if status == 1 else said[-500:])
