"""The files between agent and network process; the agent reads a stranger's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeagent import paths
from nodeagent.fleet import handoff
from nodeagent.fleet.handoff import Announcement, Candidate
from nodeagent.host.host import Host
from nodeagent.trust import wire

SAID = Announcement("10.77.0.11", "n-abcdefghij234567", "abc_-1", 6444, True, False)
FOUND = Candidate("10.77.0.12", 6444, "xyz", 1, 2)


@pytest.fixture
def bare(tmp_path: Path) -> Host:
    """A machine with nothing on it."""
    return Host(tmp_path / "root")


def test_both_ways(bare: Host) -> None:
    assert handoff.read_announcement(bare) is None
    assert handoff.read_heard(bare) == (None, ())
    handoff.write_announcement(bare, SAID)
    assert handoff.read_announcement(bare) == SAID
    handoff.write_heard(bare, 1700000000, [FOUND])
    assert handoff.read_heard(bare) == (1700000000, (FOUND,))


MANY = handoff.MAX_CANDIDATES + 1
WHOLE = {"v": 1, "own_heard": 1, "candidates": [FOUND.__dict__]}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 10, b"[]", b"{" * 100_000, b" " * (handoff.MAX_BYTES + 1),
        json.dumps({**WHOLE, "v": 2}).encode(), json.dumps({**WHOLE, "v": "1"}).encode(),
        json.dumps({**WHOLE, "own_heard": "1"}).encode(),
        json.dumps({**WHOLE, "candidates": [FOUND.__dict__] * MANY}).encode(),
        json.dumps({**WHOLE, "candidates": [{**FOUND.__dict__, "port": 0}]}).encode(),
        json.dumps({**WHOLE, "candidates": [{**FOUND.__dict__, "address": "x"}]}).encode(),
        json.dumps({**WHOLE, "candidates": [{**FOUND.__dict__, "beacon": "a b"}]}).encode(),
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_what_is_malformed_counts_as_nothing(data: bytes, bare: Host) -> None:
    bare.write(handoff.HEARD, data)
    assert handoff.read_heard(bare) == (None, ())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_count_as_nothing(data: bytes, bare: Host) -> None:
    bare.write(handoff.HEARD, data)
    assert handoff.read_heard(bare) == (None, ())


def test_links_pipes_and_folders_are_not_read(bare: Host) -> None:
    handoff.write_heard(bare, 1, [FOUND])
    path = bare.path(handoff.HEARD)
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert handoff.read_heard(bare) == (None, ())
    path.unlink()
    os.mkfifo(path)
    assert handoff.read_heard(bare) == (None, ())
    path.unlink()
    path.mkdir()
    assert handoff.read_heard(bare) == (None, ())


def test_a_broken_announcement_is_an_error(bare: Host) -> None:
    bare.write(paths.ANNOUNCE, b"{}")
    with pytest.raises(wire.Malformed):
        handoff.read_announcement(bare)
