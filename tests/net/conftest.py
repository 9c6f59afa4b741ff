"""Fixtures of the net tier: a fleet's card and a LAN of namespaces for each test."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator

import pytest

from nodeagent.trust import fleet_file
from tests.support.machine import fast_folder
from tests.support.virtual_lan import Lan, plugged


@pytest.fixture(scope="session")
def card() -> bytes:
    """The card file of one fleet."""
    return fleet_file.make("home")[1]


@pytest.fixture
def lan(card: bytes) -> Iterator[Lan]:
    """An empty LAN."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    # Not tmp_path: the path of a Unix socket has 107 bytes at most (unix(7)).
    with fast_folder() as folder, plugged(f"na{secrets.token_hex(3)}", folder, card) as made:
        yield made
