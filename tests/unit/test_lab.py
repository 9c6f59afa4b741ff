"""The lab's own logic that needs no virtual board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab import place, results, toolbox
from tests.lab.board import Board
from tests.lab.guest import Guest


def line(message: str, real: float, monotonic: float) -> str:
    """As journalctl prints it; both times in microseconds."""
    times = {"__REALTIME_TIMESTAMP": real, "__MONOTONIC_TIMESTAMP": monotonic}
    return json.dumps(
        {"MESSAGE": message, "_BOOT_ID": "1", **{k: f"{v * 1e6:.0f}" for k, v in times.items()}}
    )


def test_a_line_from_before_the_clock_was_set_is_told_at_its_right_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [
        line("preparing: no clock yet", 500, 30),
        line("discovering: the clock is right", 1060, 60),
        line("ready: all is well", 1100, 100),
    ]
    guest = Guest(Board(2, "arm64", "tcg", "", "", "raspi3b"))
    on: list[dict[str, Any]] = [{"event": "power-on", "at": 999.0}]
    monkeypatch.setattr(Guest, "ssh", lambda self, command, timeout: "\n".join(lines))
    monkeypatch.setattr(Guest, "power_ons", lambda self: on)
    spans = [("booting", 999), ("preparing", 1030), ("discovering", 1060), ("ready", 1100)]
    assert results.timeline(guest) == spans


def test_a_pi_is_arm64_whatever_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in place.PIS:
        monkeypatch.setenv("MACHINE_2", name)
        for arch in ("amd64", "arm64"):
            monkeypatch.setenv("ARCH", arch)
            asked = place.Asked.from_environment()
            assert [asked.arch_of(index) for index in (1, 2)] == [arch, "arm64"]
            assert asked.archs == list(dict.fromkeys([arch, "arm64"]))


@pytest.mark.processes
@pytest.mark.parametrize(
    ("qemu", "bound", "seen"),
    [
        ("echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'", 60.0, True),
        ("exec sleep 60", 0.1, False),  # one that has not failed yet
        ("echo 'Assertion failed.' >&2; exit 134", 60.0, False),
    ],
)
def test_kvm_is_used_where_the_kernel_was_seen_to_run(
    monkeypatch: pytest.MonkeyPatch, qemu: str, bound: float, seen: bool
) -> None:
    monkeypatch.setattr(toolbox, "command", lambda *argv: ["sh", "-c", qemu])
    assert toolbox.boots("amd64", Path("vmlinuz"), toolbox.KVM, bound) is seen
