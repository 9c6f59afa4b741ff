"""The table of handshakes on the oldest supported Python and on the newest, with its OpenSSL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from tests.hostile import pythons
from tests.hostile.section import Section

OLDEST = (3, 11)  # pyproject.toml, requires-python
BOUND = 240  # seconds for all cases on one Python


def run(seed: int) -> Section:
    """Both tables side by side; any verdict but the expected one is a fault."""
    faults = []
    found = [_table([sys.executable])]
    if sys.version_info[:2] != OLDEST:
        faults.append(
            f"this is Python {found[0]['python']}: the oldest supported one is to be tried too; "
            "run it on Debian 12, or with SYSTEM_PYTHON=python3.11"
        )
    try:
        found.append(_table(pythons.command(pythons.ensure(), "python3")))
    except (pythons.NoPython, subprocess.SubprocessError, ValueError) as error:
        faults.append(f"the newest Python could not be asked: {error}")
    if len(found) > 1 and _minor(found[1]) <= _minor(found[0]):
        faults.append(f"Debian {pythons.SUITE} has no newer Python than this one")
    rows = []
    for cases in zip(*(table["rows"] for table in found), strict=True):
        what, expected = cases[0][:2]
        rows.append((what, _words(expected), *(_told(case) for case in cases)))
        for table, case in zip(found, cases, strict=True):
            if case[2] != expected:
                faults.append(f"{what}: {case[2]} on Python {table['python']}, not {expected}")
    versions = [
        f"Python {table['python']}, {' '.join(table['openssl'].split()[:2])}" for table in found
    ]
    return Section(
        "Handshakes",
        "Real TLS handshakes between the two shipped contexts, with what an attacker can make of "
        "another fleet's material, a worker's card, or a joined node's key. OpenSSL alone decides; "
        f"the words are its own. {len(rows)} cases, each also where the node's clock is not known "
        "and dates are left out. A right certificate without key identifiers is refused because "
        "strict checking is on in both contexts.",
        ("what is shown", "expected", *versions),
        tuple(rows),
        tuple(faults),
    )


def _table(python: list[str]) -> dict[str, Any]:
    """What `python -m tests.support.tls_cases` says there."""
    done = subprocess.run(
        [*python, "-m", "tests.support.tls_cases"],
        cwd=pythons.CHECKOUT, capture_output=True, text=True, timeout=BOUND, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(done.stderr.strip()[-600:] or "it said nothing")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _minor(table: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", table["python"])[:2])


def _words(who: str) -> str:
    return "accepted" if who == "ok" else f"the {who} refuses"


def _told(case: list[str]) -> str:
    _, _, who, why = case
    # Names of fleets are made anew each time.
    return f"{_words(who)}: {re.sub(r'f-[a-z2-7]{16}', 'FLEET', why)}" if why else _words(who)
