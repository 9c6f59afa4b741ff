"""A worker without a time server goes by its control plane's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest

from nodeagent import paths
from nodeagent.agent import follow
from nodeagent.cluster import control_plane, kubelet_api, rest
from nodeagent.config.settings import Settings
from nodeagent.host.timesync import SYNCHRONISED
from nodeagent.steps.clock import OUTLIVED
from tests.support.machine import NOW, Machine, put
from tests.unit.agent.test_formation import former, worker
from tests.unit.cluster.test_renewal import DAY, YEAR, made


def sets(moment: float) -> str:
    """The command that sets the clock."""
    return f"systemd-run --quiet --wait --collect date --utc --set=@{moment:.0f}"


@pytest.mark.parametrize(
    ("files", "there", "ran"),
    [
        ({}, NOW + 3600, [sets(NOW + 3600)]),
        ({}, NOW + 1, []),  # as exact as it can be told
        ({}, NOW - 3600, []),  # never back
        ({}, NOW + 2 * YEAR, []),  # its own certificate has ended then
        ({paths.KUBELET_CLIENT: "-----BEGIN CERTIFICATE"}, NOW + 3600, []),
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
    put(tmp_path, {paths.KUBELET_CLIENT: made(DAY)} | files)
    machine = Machine(tmp_path, dict.fromkeys(ran, ""))
    monkeypatch.setattr(kubelet_api, "time", lambda host: there)
    follow.follow_clock(machine)
    assert [one for one in machine.ran if one.startswith("systemd-run")] == ran


def test_a_worker_that_is_ready_at_once_goes_by_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its API server has answered then, and nobody looks again for a day."""
    machine = worker(tmp_path, DAY)
    machine.answers[sets(NOW + 3600)] = ""
    put(
        tmp_path, {paths.KUBELET_CONF: "    server: https://api.f-aaaaaaaaaaaaaaaa.internal:6443\n"}
    )
    asked = list[tuple[object, ...]]()

    def request(*about: object) -> rest.Answer:
        asked.append(about)
        return rest.Answer(401, "Unauthorized", b"", NOW + 3600)

    monkeypatch.setattr(rest, "request", request)
    monkeypatch.setattr(control_plane, "ready", lambda *_: True)
    forming = former(machine, "worker", synced=False)
    forming.trust = Mock()
    forming.announcer = Mock()
    forming.follow(Settings())
    assert sets(NOW + 3600) in machine.ran
    assert asked[0][0] == ("api.f-aaaaaaaaaaaaaaaa.internal", 6443)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Wed, 18 Nov 2026 20:00:00 GMT", datetime(2026, 11, 18, 20, tzinfo=UTC).timestamp()),
        ("", None),
        ("yesterday", None),
        ("Wed, 18 Nov 99999999999 20:00:00 GMT", None),
        ("Thu, 19 Nov 2026 20:00:00 GMT", None),  # its own certificate has ended then
    ],
)
def test_what_a_server_says_of_the_time(said: str, seconds: float | None) -> None:
    assert rest._time(said, "Nov 19 19:59:59 2026 GMT") == seconds
