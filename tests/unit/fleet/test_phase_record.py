"""The phase in the mDNS record: for people, in the clear, and never in the beacon's way."""

from __future__ import annotations

import pytest

from nodeagent.fleet.handoff import Announcement
from nodeagent.serve.mdns import discovery


def said(beacon: str, phase: str) -> bytes:
    """The TXT record as it goes out (RFC 6763 6)."""
    announcement = Announcement("10.0.0.7", "n-aaaaaaaaaaaaaaaa", beacon, 6444, False, True, phase)
    text = discovery._info(announcement).text
    assert isinstance(text, bytes)
    return text


@pytest.mark.parametrize("length", [1, 249, 250, 251, 900])
def test_the_beacon_is_read_as_before(length: int) -> None:
    beacon = "Ab-_0" * (length // 5) + "x" * (length % 5)
    text = said(beacon, "initialising")
    assert b"\x12phase=initialising" in text
    assert discovery.from_txt(text) == beacon


def test_without_a_page_it_says_nothing() -> None:
    assert b"phase" not in said("abc", "")
