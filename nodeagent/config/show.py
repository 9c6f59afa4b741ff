"""The settings as lines for people."""

from __future__ import annotations

from nodeagent.config import settings
from nodeagent.host.host import Host


def show_config(host: Host) -> list[str]:
    """Each dotted key with its value and origin. Raises ConfigError, OSError."""
    return [
        f"{name} = {_plain(origin.value)}  ({origin.where})"
        for name, origin in settings.load(host).origins.items()
    ]


def _plain(value: object) -> str:
    if value is None:
        return "not set"
    return "[" + ", ".join(value) + "]" if isinstance(value, tuple) else str(value)
