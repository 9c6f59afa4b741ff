"""One fleet for all tests of this folder: making keys takes time, and they are never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file, store
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.pki import new_key
from nodeagent.trust.store import Trust


@pytest.fixture(scope="session")
def card() -> bytes:
    """A fleet's card file."""
    return fleet_file.make("home")[1]


@pytest.fixture(scope="session")
def trust(card: bytes) -> Trust:
    """What a node with that card trusts."""
    return store.from_card(fleet_file.parse(card))


@pytest.fixture(scope="session")
def stranger() -> Trust:
    """Another fleet's."""
    return store.from_card(fleet_file.parse(fleet_file.make("other")[1]))


@pytest.fixture(scope="session")
def key() -> NodeKey:
    """A node's key."""
    return NodeKey(new_key())


@pytest.fixture
def host(tmp_path: Path, card: bytes) -> Host:
    """A node that has just imported its card."""
    host = Host(tmp_path / "root")
    host.write(store.CARD_FILES[0], card, 0o600)
    store.import_card(host, StateFile(host))
    return host
