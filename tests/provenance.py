"""Which code a recorded result is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# Reports and records do not change what runs, and a run of several parts writes some on its way.
REPORTS = (
    ":(exclude)docs", ":(exclude)tests/lab/results", ":(exclude)tests/cluster/played.json",
    ":(exclude)tests/cluster/traces",
)  # fmt: skip


def commit() -> str:
    """The commit of this checkout, in 12 hexadecimal digits."""
    return _git("rev-parse", "--short=12", "HEAD")


def clean() -> bool:
    """False where a file of this checkout is changed or new, reports and records aside."""
    return not _git("status", "--porcelain", "--", ".", *REPORTS)


def named() -> str:
    """The commit, for a sentence in a report."""
    return commit() + ("" if clean() else " with changes that are not committed")


def is_behind(name: str) -> bool:
    """True for a commit that the present code has come from."""
    done = subprocess.run(
        ["git", "merge-base", "--is-ancestor", name, "HEAD"], cwd=CHECKOUT, capture_output=True
    )
    return done.returncode == 0


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
