"""A joining node's question: ``python -m tests.support.ask_process ROOT WISH ADDRESS...``; prints
the grant, or the error, as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from nodeagent.errors import NodeAgentError
from nodeagent.host.host import Host
from nodeagent.join import client
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.support.authority import KUBELET

KUBELET_HASH = pki.spki_hash(KUBELET.public_key())


def main(root: str, wish: str, *addresses: str) -> None:
    """Ask once."""
    host = Host(Path(root))
    key = NodeKey.load_or_create(host)
    candidates = [(address, 6444) for address in addresses]
    begin = time.monotonic()
    try:
        grant = client.ask(
            Trust.load(host),
            key,
            candidates,
            wish,
            {"model": "virtual"},
            time.time(),
            kubelet=KUBELET_HASH,
            host=host,
        )
        said: dict[str, object] = {
            "name": grant.node_name,
            "endpoints": grant.cluster.endpoints,
            "token": grant.token.reveal(),
            "kubernetes": grant.cluster.kubernetes,
        }
    except NodeAgentError as error:
        said = {"error": type(error).__name__, "reason": error.reason}
    json.dump({**said, "took": time.monotonic() - begin}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # without waiting for candidates that are still being tried


if __name__ == "__main__":
    main(*sys.argv[1:])
