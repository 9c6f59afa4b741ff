"""A worker without a time server goes by its control plane's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.agent import follow
from nodeagent.cluster import kubelet_api, rest
from nodeagent.host.timesync import SYNCHRONISED
from nodeagent.steps.clock import OUTLIVED
from tests.support.machine import NOW, Machine, put


def sets(moment: float) -> str:
    """The command that sets the clock."""
    return f"systemd-run --quiet --wait --collect date --utc --set=@{moment:.0f}"


@pytest.mark.parametrize(
    ("files", "there", "ran"),
    [
        ({}, NOW + 3600, [sets(NOW + 3600)]),
        ({}, NOW + 1, []),  # as exact as it can be told
        ({}, NOW - 3600, []),  # never back
        ({}, None, []),  # nobody answers
        ({}, OUTLIVED.timestamp(), []),  # no clock is right that says this
        ({SYNCHRONISED: ""}, NOW + 3600, []),  # a time server knows better
        ({paths.ADMIN_CONF: "x"}, NOW + 3600, []),  # the API server has this very clock
    ],
)
def test_the_clock_goes_by_the_control_planes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    there: float | None,
    ran: list[str],
) -> None:
    put(tmp_path, files)
    machine = Machine(tmp_path, dict.fromkeys(ran, ""))
    monkeypatch.setattr(kubelet_api, "time", lambda host: there)
    follow.follow_clock(machine)
    assert [one for one in machine.ran if one.startswith("systemd-run")] == ran


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Wed, 18 Nov 2026 20:00:00 GMT", datetime(2026, 11, 18, 20, tzinfo=UTC).timestamp()),
        ("", None),
        ("yesterday", None),
        ("Wed, 18 Nov 99999999999 20:00:00 GMT", None),
    ],
)
def test_what_a_server_says_of_the_time(said: str, seconds: float | None) -> None:
    assert rest._time(said) == seconds
