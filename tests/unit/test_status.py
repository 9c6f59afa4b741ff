"""The status model and what people see of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodeagent import status
from nodeagent.board import Board
from nodeagent.errors import Blocked
from nodeagent.host.host import Clock, Host


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A board on a folder; systemd's notification socket is left out (a double)."""
    monkeypatch.setattr("nodeagent.board.notify", lambda message: None)
    ticks = iter(float(n) for n in range(1000, 9999))
    return Board(Host(tmp_path, clock=Clock(now=lambda: next(ticks))))


def published(board: Board) -> dict[str, Any]:
    """What the file says."""
    return status.parse((board._host.root / "run/nodeagent/status.json").read_bytes())


def test_a_phase_is_written_once_with_its_time(board: Board) -> None:
    board.enter("electing", "Listening")
    board.enter("electing", "Holding down")
    shown = published(board)
    assert (shown["phase"], shown["detail"]) == ("electing", "Holding down")
    assert [entry["phase"] for entry in shown["phases"]] == ["preparing", "electing"]


def test_trouble_shows_code_reason_and_remedy_and_goes_with_the_next_phase(board: Board) -> None:
    board.trouble(Blocked("The clock is not set.", "Wait."), failed=True)
    shown = published(board)
    assert shown["phase"] == "failed"
    assert shown["error"] == {"code": "E100", "reason": "The clock is not set.", "remedy": "Wait."}
    assert "do: Wait." in status.render(shown)
    board.enter("preparing", "Going on")
    assert published(board)["error"] is None


def test_status_is_world_readable(board: Board) -> None:
    board.enter("ready")
    assert board._host.mode(status.PATH) == 0o644


@pytest.mark.parametrize(
    ("phase", "code"), [("ready", 0), ("joining", 1), ("failed", 2), ("unheard-of", 2)]
)
def test_exit_codes(phase: str, code: int) -> None:
    assert status.exit_code({**status.empty(), "phase": phase}) == code


def test_rendering_fits_80_columns() -> None:
    shown = {
        **status.empty(),
        "phase": "preparing",
        "node_name": "pi-0a1b2c",
        "since": 1000.0,
        "steps": [{"name": "cgroup", "title": "x" * 48, "state": "done", "seconds": 1234.5}],
        "peers": [
            {
                "name": "pi-99ffee",
                "phase": "initialising",
                "role": "control-plane",
                "address": "255.255.255.255",
            }
        ],
    }
    text = status.render(shown, now=1061.0)
    assert text.startswith("pi-0a1b2c: preparing for 1 min 1 s\n")
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("data", [b"", b"[]", b'{"version": 9}', b"\xff", b'{"version":'])
def test_a_damaged_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        status.parse(data)


def test_json_round_trip() -> None:
    assert status.parse(json.dumps(status.empty()).encode()) == status.empty()
