"""A worker's look for its control plane: ``python -m tests.support.follow_process ROOT TYPED...``;
prints the address that was proved, or nothing; `off` where this boot shall end. TYPED: addresses in
`control_plane`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from nodeagent.agent import follow
from nodeagent.config.settings import Settings
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust


def main(root: str, *typed: str) -> None:
    """One look."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    host = Host(Path(root))
    settings = Settings(control_plane=typed)
    found = follow.look(
        host, Trust.load(host), NodeKey.load_or_create(host), StateFile(host), settings
    )
    sys.stderr.write(f"{found.not_followed}\n")
    sys.stdout.write("off" if found.off else found.address or "")
    sys.stdout.flush()
    os._exit(0)  # without waiting for those that are still being asked


if __name__ == "__main__":
    main(*sys.argv[1:])
