"""Names as the programs of one board look them up: in its own /etc/hosts (nsswitch.conf(5), files).

A double of the C library's resolver, for Python processes that see the machine's files as theirs.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from nodeagent.cluster import names

_REAL = socket.getaddrinfo


def install(root: Path) -> None:
    """From now on this process knows the names that the board below ``root`` has."""

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        hosts = root / "etc/hosts"
        known = names.addresses_of(hosts.read_text(), host) if hosts.exists() else ()
        if not known and str(host).endswith(".internal"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for one in known or (host,) for found in _REAL(one, *rest, **more)]

    socket.getaddrinfo = getaddrinfo
