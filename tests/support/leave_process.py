"""A leaving node's word: ``python -m tests.support.leave_process ROOT NAME UID FINAL ADDRESS...``;
prints why it was not heard, empty where it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nodeagent.host.host import Host
from nodeagent.join import leave
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust


def main(root: str, name: str, uid: str, final: str, *addresses: str) -> None:
    """Say it once."""
    host = Host(Path(root))
    key, trust = NodeKey.load_or_create(host), Trust.load(host)
    candidates = [(address, 6444) for address in addresses]
    sys.stdout.write(leave.tell(trust, key, host, candidates, name, uid, final == "final"))
    sys.stdout.flush()
    os._exit(0)  # without waiting for candidates that are still being tried


if __name__ == "__main__":
    main(*sys.argv[1:])
