"""What a node asks with."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust


def test_several_threads_ask_at_once(tmp_path: Path, trust: Trust) -> None:
    """Each has a certificate of its own, and nothing is written to the card."""
    host = Host(tmp_path)
    key = NodeKey.load_or_create(host)
    before = sorted(tmp_path.rglob("*"))
    with ThreadPoolExecutor(16) as pool:
        made = [
            pool.submit(client.client_context, trust, key, host, check_time=False)
            for _ in range(64)
        ]
        assert all(one.result().verify_mode == ssl.CERT_REQUIRED for one in made)
    assert sorted(tmp_path.rglob("*")) == before
