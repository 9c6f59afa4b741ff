"""The seeded defects are patches to the product as it is, and each has its line in a table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.hostile.trust_defects import ALL as HOSTILE
from tests.reliability.board_defects import DEFECTS as BOARD
from tests.reliability.durability_defects import DEFECTS as RELIABILITY
from tests.simulate.election_defects import DEFECTS as SIMULATE
from tests.support.seeded import Defect

TESTS = Path(__file__).parents[1]
DEFECTS = (*RELIABILITY, *BOARD, *HOSTILE, *SIMULATE)


@pytest.mark.processes
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: f"{d.folder.parent.name}/{d.name}")
def test_each_still_fits_the_product(defect: Defect) -> None:
    patch = defect.folder / f"{defect.name}.patch"
    done = subprocess.run(
        ["git", "apply", "--check", str(patch)],
        cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_no_patch_lies_about() -> None:
    there = set(TESTS.glob("*/defects/*.patch"))
    assert there == {defect.folder / f"{defect.name}.patch" for defect in DEFECTS}
