"""``nodeagent events``: the milestones of this node, out of the system's journal.

The journal keeps them over boots; who may not read it (journalctl(1), "ACCESS CONTROL") is shown
what the status knows of this boot.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypedDict

from nodeagent.host.host import Host
from nodeagent.status import events, model

if TYPE_CHECKING:
    from nodeagent.status import schema

UNIT = "nodeagent.service"
MAX_EVENTS = 500
PREFIX = "NODEAGENT_"
MAX_MESSAGE = 400  # characters


class Record(TypedDict):
    """A milestone; ``time`` in seconds since the epoch, ``event`` as in ``events.EVENTS``."""

    time: float
    event: str
    message: str
    fields: dict[str, str]


def read(host: Host) -> list[Record]:
    """Oldest first."""
    ids = [f"MESSAGE_ID={event.message_id}" for event in events.EVENTS.values()]
    found = host.run(
        "journalctl", "--no-pager", "-q", "-o", "json", "-n", str(MAX_EVENTS),
        f"_SYSTEMD_UNIT={UNIT}", *ids, timeout=60,
    )  # fmt: skip
    return list(parse(found.out)) if found.status == 0 else []


def parse(text: str) -> Iterator[Record]:
    """Journal entries (systemd.io, "Journal Export Formats", JSON); odd ones are left out."""
    names = {event.message_id: name for name, event in events.EVENTS.items()}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            name = names[entry["MESSAGE_ID"]]
            at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError):
            continue
        fields = {
            key.removeprefix(PREFIX).lower(): value
            for key, value in entry.items()
            if key.startswith(PREFIX) and isinstance(value, str)
        }
        message = entry.get("MESSAGE")
        if not isinstance(message, str):  # bytes that are no text come as a list
            message = events.EVENTS[name].title
        yield {"time": at, "event": name, "message": message, "fields": fields}


def of_this_boot(shown: schema.Status) -> list[Record]:
    """The same out of a status: the phases of this boot."""
    return [
        {"time": one["at"], "event": one["phase"], "message": one["phase"], "fields": {}}
        for one in shown["phases"]
    ]


def as_text(found: list[Record]) -> Iterator[str]:
    """Lines of 80 columns, in local time."""
    day = ""
    for one in found:
        at = time.localtime(one["time"])
        if time.strftime("%Y-%m-%d", at) != day:
            day = time.strftime("%Y-%m-%d", at)
            yield day
        lines = model.wrap(one["message"][:MAX_MESSAGE], 56)
        yield f"  {time.strftime('%H:%M:%S', at)}  {one['event']:<12} {lines[0]}".rstrip()
        yield from (f"{'':<25}{line.strip()}" for line in lines[1:])
