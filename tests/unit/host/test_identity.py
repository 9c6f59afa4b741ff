"""What tells a board from others."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.host.facts import Facts
from nodeagent.host.identity import board_mark
from tests.support.machine import Machine, put

SERIAL = "/proc/device-tree/serial-number"


def mark(root: Path, serial: str, key: bytes = b"k" * 32) -> str:
    put(root, {SERIAL: serial})
    return board_mark(Facts(Machine(root)), key)


def test_the_mark_of_a_board_is_its_own_and_its_fleets(tmp_path: Path) -> None:
    first = mark(tmp_path, "10000000abcdef12\0")
    assert len(first) == 32 and "abcdef12" not in first
    assert mark(tmp_path, "10000000abcdef12\0") == first
    assert mark(tmp_path, "10000000abcdef13\0") != first
    assert mark(tmp_path, "10000000abcdef12\0", b"x" * 32) != first


@pytest.mark.parametrize("serial", ["", "0000000000000000\0", "12\0"])
def test_a_board_that_nothing_tells_from_others_has_none(serial: str, tmp_path: Path) -> None:
    assert mark(tmp_path, serial) == ""
