"""The phase in the mDNS record: for people, in the clear, and never in the beacon's way."""

from __future__ import annotations

import pytest

from nodeagent.fleet.handoff import Announcement
from nodeagent.serve.mdns import message


def said(beacon: str, phase: str) -> bytes:
    """The packet as it goes out."""
    announcement = Announcement("10.0.0.7", "n-aaaaaaaaaaaaaaaa", beacon, 6444, False, True, phase)
    (packet,) = message.records(announcement)
    return packet


@pytest.mark.parametrize("length", [1, 249, 250, 251, 900])
def test_the_beacon_is_read_as_before(length: int) -> None:
    beacon = "Ab-_0" * (length // 5) + "x" * (length % 5)
    packet = said(beacon, "initialising")
    assert b"\x12phase=initialising" in packet
    assert list(message.beacons(packet)) == [("n-aaaaaaaaaaaaaaaa", beacon)]


def test_without_a_page_it_says_nothing() -> None:
    assert b"phase" not in said("abc", "")
