"""One model of a node's status, and its renderings.

The agent writes it to ``/run/nodeagent/status.json`` (world-readable, no secrets) whenever it
changes; ``nodeagent status``, the status page and scripts read that file. Schema version 1.
Imports stay few: ``nodeagent status`` must answer at once on a slow board.
"""

from __future__ import annotations

import json
import time
from typing import Any

PATH = "/run/nodeagent/status.json"
VERSION = 1
MAX_BYTES = 256 * 1024

# phase -> exit code of ``nodeagent status``: 0 ready, 1 on its way, 2 needs help.
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


def empty() -> dict[str, Any]:
    """A status with every key of the schema. Times are seconds since the epoch."""
    return {
        "version": VERSION,
        "phase": "preparing",
        "since": 0.0,
        "updated": 0.0,
        "detail": "",
        "node_name": "",
        "node_id": "",
        "address": "",
        "fleet": "",
        "role": "auto",
        "role_why": "",
        "control_plane": "",
        "kubernetes": "",
        "steps": [],
        "phases": [],
        "peers": [],
        "error": None,
        "notes": [],
        "pid": 0,
    }


def parse(data: bytes) -> dict[str, Any]:
    """The status in a file's bytes; unknown keys are kept. Raises ValueError."""
    value = json.loads(data)
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ValueError("not a status of this version")
    return {**empty(), **value}


def render(status: dict[str, Any], now: float | None = None) -> str:
    """The status for people, at most 80 columns wide where words allow."""
    now = time.time() if now is None else now
    name = status["node_name"] or "this node"
    lines = [f"{name}: {status['phase']} for {_duration(now - status['since'])}"]
    if status["detail"]:
        lines.append(f"  {status['detail']}")
    if status["error"]:
        error = status["error"]
        lines += [f"  problem ({error['code']}): {error['reason']}", f"  do: {error['remedy']}"]
    lines += [f"  note: {note}" for note in status["notes"]]
    why = f" ({status['role_why']})" if status["role_why"] else ""
    lines += ["", f"  role           {status['role']}{why}"]
    for label, key in (
        ("control plane", "control_plane"),
        ("address", "address"),
        ("Kubernetes", "kubernetes"),
        ("fleet", "fleet"),
        ("node id", "node_id"),
    ):
        if status[key]:
            lines.append(f"  {label:<14} {status[key]}")
    if status["steps"]:
        lines += ["", "  steps"]
        lines += [_step(step) for step in status["steps"]]
    if status["peers"]:
        lines += ["", "  heard on the network"]
        lines += [
            f"    {peer['name']:<24} {peer['phase']:<13} {peer['role']:<14} {peer['address']}"
            for peer in status["peers"]
        ]
    return "\n".join(lines) + "\n"


def _step(step: dict[str, Any]) -> str:
    mark = {"done": "ok", "acting": "..", "planning": "..", "waiting": "wait"}.get(
        step.get("state", ""), "  "
    )
    seconds = step.get("seconds") or 0.0
    return f"    {mark:<5}{step['title']:<48} {seconds:>7.1f} s"


def _duration(seconds: float) -> str:
    total = max(0, int(seconds))
    days, rest = divmod(total, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def read(path: str = PATH) -> dict[str, Any]:
    """The status of the running agent.

    Raises FileNotFoundError where the agent has not run since boot, ValueError.
    """
    with open(path, "rb") as file:  # noqa: PTH123  pathlib costs a third of the start
        return parse(file.read(MAX_BYTES))


def dump(status: dict[str, Any]) -> str:
    """The status as JSON text."""
    return json.dumps(status, indent=2, sort_keys=True)


def exit_code(status: dict[str, Any]) -> int:
    """The exit status of ``nodeagent status`` for this status."""
    return PHASES.get(status["phase"], 2)
