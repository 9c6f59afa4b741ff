"""One fleet for all tests of this folder: making keys takes time, and they are never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.host.host import Host
from nodeagent.statefile import Journal
from nodeagent.trust import fleet_file as cards
from nodeagent.trust import store as trusts
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.pki import new_key
from nodeagent.trust.store import Trust


@pytest.fixture(scope="session")
def card() -> bytes:
    """A fleet's card file."""
    return cards.make("home")[1]


@pytest.fixture(scope="session")
def trust(card: bytes) -> Trust:
    """What a node with that card trusts."""
    return trusts.from_card(cards.parse(card))


@pytest.fixture(scope="session")
def stranger() -> Trust:
    """Another fleet's."""
    return trusts.from_card(cards.parse(cards.make("other")[1]))


@pytest.fixture(scope="session")
def key() -> NodeKey:
    """A node's key."""
    return NodeKey(new_key())


@pytest.fixture
def host(tmp_path: Path, card: bytes) -> Host:
    """A node that has just imported its card."""
    host = Host(tmp_path / "root")
    host.write(trusts.CARD_FILES[0], card, 0o600)
    trusts.import_card(host, Journal(host))
    return host
