"""The kubelet's double tells what real kubelets told on boards that were carried to another network
(tests/lab/traced.py has recorded them), and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.cluster.real_boards import RealBoards, Story, fleet
from tests.support import kubelet_trace

pytestmark = pytest.mark.cluster
RECORDED = Path(__file__).with_name("traces") / "carried.json"
AFTER = {"leads": "192.168.9.21", "works": "192.168.9.22"}
NAMES = {"leads": "leader", "works": "worker"}
QUIET = 12.0  # seconds without news: several of the double's looks at what is due


def power_on(boards: RealBoards, addresses: dict[str, str], file: Path | None = None) -> None:
    """All boards, until they are well; the leader records from its boot on, where it is to."""
    for board in boards.all:
        board.power_on()
    if file:
        boards.all[0].trace(file)
    well = lambda: boards.formed and boards.ready == addresses  # noqa: E731
    assert boards.until(well, 240), boards.story()


def off(boards: RealBoards) -> None:
    """`nodeagent fleet off`."""
    leads, works = boards.all
    command = leads.switch_off()
    assert boards.until(lambda: command.poll() is not None, 200), boards.story()
    assert not works.powered, boards.story()
    leads.power_off()


def test_the_double_tells_what_a_real_kubelet_told(
    formed: tuple[Path, Story], tmp_path: Path
) -> None:
    assert RECORDED.exists(), (
        f"There is no {RECORDED.name} of real kubelets: `make lab-carried` records it."
    )
    real, file = json.loads(RECORDED.read_text()), tmp_path / "told.jsonl"
    with fleet(formed[0]) as boards:
        before = formed[1].ready
        power_on(boards, before)
        boards.until(lambda: False, QUIET)  # the lab's boards have long been at rest
        boards.all[0].trace(file)
        for addresses in (before, AFTER):
            off(boards)
            for board, address in zip(boards.all, addresses.values(), strict=True):
                boards.renumber(board, address)
            power_on(boards, addresses, file)
            boards.until(lambda: False, QUIET)
        quiet = lambda: time.time() - file.stat().st_mtime > QUIET  # noqa: E731
        assert boards.until(quiet, 120), file.read_text()
        words = NAMES | {
            address: f"{NAMES[node]}-{when}"
            for when, addresses in (("before", before), ("after", AFTER))
            for node, address in addresses.items()
        }
        told = kubelet_trace.told(file.read_text().splitlines(), words)
        found = kubelet_trace.differences(real["told"], told)
        for board, name in zip(boards.all, NAMES.values(), strict=True):
            left = kubelet_trace.left(board.host.root, words)
            found += [
                f"{name}, {one}" for one in kubelet_trace.left_otherwise(real["left"][name], left)
            ]
    assert not found, "\n".join(found)
