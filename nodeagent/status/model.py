"""One model of a node's status: everything that shows it reads this.

The agent writes it to ``/run/nodeagent/status.json`` (world-readable, one line, no secrets)
whenever it changes. Schema version 1 is in ``status.schema.json`` beside this file: keys are added
to it, never taken away or given another meaning; those who read it ignore what they do not know.
Imports stay few: the keeper and ``nodeagent status`` have it loaded on small boards.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from nodeagent import formats, paths

if TYPE_CHECKING:
    from nodeagent.status.schema import Status

VERSION = 1
MAX_BYTES = 256 * 1024
# Others count as silent when nothing was heard of them for so many seconds; a beacon is renewed
# every 20 s, and what was heard is written down every 30 s.
SILENT = 120.0

# phase -> exit code of ``nodeagent status``: 0 ready, 1 on its way (or ready with a problem), 2
# needs help.
PHASES = {
    "preparing": 1,
    "rebooting": 1,
    "discovering": 1,
    "electing": 1,
    "initialising": 1,
    "joining": 1,
    "ready": 0,
    "failed": 2,
}
NOT_RUNNING = 3
RESTART = "Restart the agent: sudo systemctl restart nodeagent"


def empty() -> Status:
    """A status with every key of the schema."""
    return {
        "version": VERSION,
        "phase": "preparing",
        "since": 0.0,
        "updated": 0.0,
        "detail": "",
        "waiting": None,
        "progress": None,
        "node_name": "",
        "node_id": "",
        "address": "",
        "page": "",
        "fleet": "",
        "role": "auto",
        "role_why": "",
        "control_plane": "",
        "kubernetes": "",
        "versions": {},
        "steps": [],
        "phases": [],
        "peers": [],
        "timeline": [],
        "approval": "",
        "approvals": [],
        "certificates": [],
        "tokens": [],
        "hardware": [],
        "error": None,
        "last_error": None,
        "notes": [],
        "pid": 0,
    }


def parse(data: bytes) -> Status:
    """The status in a file's bytes; unknown keys are kept. Raises ValueError, OtherVersion."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a status")
    formats.check(value.get("version"), paths.STATUS, VERSION, RESTART)
    return cast("Status", {**empty(), **value})


def read(path: str = paths.STATUS) -> Status:
    """The status of the running agent.

    Raises FileNotFoundError where the agent has not run since boot, ValueError, OtherVersion.
    """
    with open(path, "rb") as file:  # noqa: PTH123  pathlib costs a third of the start
        return parse(file.read(MAX_BYTES))


def dump(status: Status) -> str:
    """The status as JSON text."""
    return json.dumps(status, indent=2, sort_keys=True)


def page(address: str, served: bool) -> str:
    """Where the status page of the node at ``address`` is; empty where it is not ``served``."""
    return f"http://{address}:{paths.PAGE_PORT}/" if address and served else ""


def exit_code(status: Status) -> int:
    """The exit status of ``nodeagent status`` for this status."""
    code = PHASES.get(status["phase"], 2)
    return 1 if code == 0 and status["error"] else code


def running(status: Status) -> bool:
    """True while the process that wrote the status is there; also where this user may not see
    the processes of others (proc(5), hidepid)."""
    import os

    return os.access(f"/proc/{int(status['pid'])}", os.F_OK) or not os.access("/proc/1", os.F_OK)


def duration(seconds: float) -> str:
    """A duration for people, in the two largest units."""
    total = max(0, int(seconds))
    days, rest = divmod(total, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def wrap(text: str, width: int = 78) -> list[str]:
    """Lines of printable ASCII, ``width`` columns at most, the later ones indented: what a program
    said may hold anything. By hand, since textwrap would cost the keeper more."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))
    found = [""]
    for word in plain.split():
        for piece in (word[at : at + width - 2] for at in range(0, len(word), width - 2)):
            if found[-1].strip() and len(found[-1]) + 1 + len(piece) > width:
                found.append("  ")
            found[-1] += f" {piece}" if found[-1].strip() else piece
    return found
