"""Whether this process may do what is asked."""

from __future__ import annotations

import os

from nodeagent.errors import Refused


def need_root() -> None:
    """Raises Refused for an ordinary user."""
    if os.geteuid() != 0:
        raise Refused("This needs root.", "Run the command again with sudo.")
