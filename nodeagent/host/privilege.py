"""Who runs this process, and whether they may do what is asked."""

from __future__ import annotations

import os

from nodeagent.errors import NeedsRoot


def need_root() -> None:
    """Raises NeedsRoot for an ordinary user."""
    if os.geteuid() != 0:
        raise NeedsRoot("This needs root.", "Run the command again with sudo.")


def sudo_user() -> tuple[int, int] | None:
    """(user id, group id) of whoever called sudo (sudo(8), SUDO_UID), to whom a file that a command
    writes shall belong; None where nobody did."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(uid), int(gid)) if uid.isdecimal() and gid.isdecimal() else None
