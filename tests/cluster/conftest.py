"""Fixtures of the cluster tier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import sandbox
from tests.cluster.real_boards import Story
from tests.cluster.renumbering import formed_fleet
from tests.support.machine import fast_folder


@pytest.fixture(scope="session")
def formed() -> Iterator[tuple[Path, Story]]:
    """A control plane and a worker that the agents have formed, saved without power, and how."""
    assert not sandbox.missing(), sandbox.missing()
    with fast_folder() as place:
        yield place, formed_fleet(place)
