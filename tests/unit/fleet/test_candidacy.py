"""How often a beacon is renewed."""

from __future__ import annotations

import pytest

from nodeagent.fleet.candidacy import CROWD, RENEW, SLOWEST_RENEW, renewal


@pytest.mark.parametrize(
    ("nodes", "formed", "claims", "seconds"),
    [
        (1, False, False, RENEW),
        (CROWD, False, False, RENEW),
        (2 * CROWD, False, False, 2 * RENEW),
        (1000, False, False, SLOWEST_RENEW),
        pytest.param(1000, False, True, RENEW, id="a claim in a crowd does not wait"),
        (3, True, False, SLOWEST_RENEW),
        (3, True, True, SLOWEST_RENEW),
    ],
)
def test_renewal(nodes: int, formed: bool, claims: bool, seconds: float) -> None:
    assert renewal(nodes, formed, claims) == seconds
