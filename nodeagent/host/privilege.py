"""Whether this process may do what is asked."""

from __future__ import annotations

from nodeagent.errors import NeedsRoot
from nodeagent.host.host import Host


def need_root(host: Host) -> None:
    """Raises NeedsRoot for an ordinary user."""
    if not host.is_root:
        raise NeedsRoot("This needs root.", "Run the command again with sudo.")
