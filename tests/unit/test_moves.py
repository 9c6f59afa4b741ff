"""docs/moves.md shows what was played in the cluster tier, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import played
from tests.cluster.played import Row

TIMES = [float(second) for second in range(1, 101)]


def test_the_page_is_of_what_was_played() -> None:
    rows = played.load()
    assert played.PAGE.exists() == bool(rows)
    assert not rows or played.PAGE.read_text() == played.page(rows), (
        "run `make moves`, or `git diff`"
    )
    assert all(" " not in row.commit for row in rows), "a checkout with changes was recorded"


@pytest.mark.processes
def test_a_row_is_added_with_each_fault_under_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(played, "KEPT", tmp_path / "played.json")
    monkeypatch.setattr(played, "PAGE", tmp_path / "moves.md")
    played.add(Row.of("moves", range(7, 107), TIMES, {9: "it is another\n cluster"}, 600.0))
    played.add(Row.of("blackouts", range(3), [2.0, 1.0, 4.04], {}, 60.0))
    first, second = played.load()
    assert (first.median, first.p99, first.longest, first.minutes) == (50.5, 99.0, 100.0, 10.0)
    assert (second.median, second.p99, second.longest) == (2.0, 2.0, 4.0)
    text = (tmp_path / "moves.md").read_text()
    assert "100 runs, 1 failed." in text and "3 runs, 0 failed." in text
    assert "* Seed 9: it is another cluster" in text
    assert "| 7 to 106 | 100 | 1 | 50.5 s | 99 s | 100 s | 10 |" in text
