"""The status as text for a terminal of 80 columns, and live (``nodeagent status --watch``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nodeagent.errors import OtherVersion
from nodeagent.host.host import Clock
from nodeagent.status import model
from nodeagent.status.model import duration, wrap

if TYPE_CHECKING:
    from nodeagent.status import schema

# ECMA-48 "select graphic rendition"; what they colour is said in words as well.
GREEN, YELLOW, RED, BOLD, PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[1m", "\033[0m"
CLEAR = "\033[H\033[2J\033[3J"
COLOURS = {0: GREEN, 1: YELLOW, 2: RED}
PERIOD = 1.0  # seconds between looks
SOON = 30 * 86400.0  # seconds before its end from which on a certificate is worth a colour
BAR = 24  # columns
MAX_DETAIL = 3  # lines; an apt-get with all its packages is longer than anybody wants


def render(status: schema.Status, now: float, colour: bool = False) -> str:
    """The status for people, at most 80 columns wide; ``now`` in seconds since the epoch."""

    def paint(code: str, text: str) -> str:
        return f"{code}{text}{PLAIN}" if colour else text

    name = status["node_name"] or "this node"
    phase = paint(COLOURS[model.exit_code(status)] + BOLD, status["phase"])
    lines = [f"{name[:40]}: {phase} for {duration(now - status['since'])}"]
    if status["detail"]:
        lines += _indented(status["detail"])[:MAX_DETAIL]
    lines += _progress(status)
    lines += _waiting(status, now)
    if status["error"]:
        error = status["error"]
        for label in (f"problem ({error['code']}): {error['reason']}", f"do: {error['remedy']}"):
            lines += [paint(RED, line) for line in _indented(label)]
        lines += _indented(f"more: nodeagent explain {error['code']}")
    elif status["last_error"]:
        last = status["last_error"]
        ago = duration(now - last["at"])
        lines += _indented(f"last problem ({last['code']}, {ago} ago): {last['reason']}")
    for one in status["hardware"]:
        said = f"warning: {one['name']}: {one['text']}. {one['remedy']}"
        lines += [paint(YELLOW, line) for line in _indented(said)]
    lines += [line for note in status["notes"] for line in _indented(f"note: {note}")]
    lines += _facts(status, now, paint)
    if status["steps"]:
        lines += ["", "  steps"]
        lines += [_step(step) for step in status["steps"]]
    if status["peers"]:
        lines += ["", "  fleet"]
        lines += [_peer(peer, now) for peer in status["peers"]]
    return "\n".join(lines) + "\n"


def one_line(status: schema.Status) -> str:
    """The status in a line, for logs of ``--watch`` without a terminal."""
    text = f"{status['phase']}: {status['detail']}"
    if status["error"]:
        text = f"{status['phase']}: {status['error']['reason']} ({status['error']['code']})"
    return wrap(text, 160)[0]


def watch(
    read: Callable[[], schema.Status], terminal: bool, colour: bool, clock: Clock
) -> Iterator[str]:
    """What to print, one piece after the other, for ever: the whole screen on a terminal, else a
    line for each change."""
    said = ""
    while True:
        try:
            current = read()
            text = render(current, clock.now(), colour) if terminal else one_line(current)
        except OtherVersion as error:
            text = f"{error.reason} {error.remedy}"
        except (FileNotFoundError, ValueError):
            text = "nodeagent is not running.\n" if terminal else "not running"
        if terminal:
            yield f"{CLEAR}{text}\n  every second; Ctrl-C ends this\n"
        elif text != said:
            yield f"{time.strftime('%H:%M:%S', time.localtime(clock.now()))} {text}\n"
        said = text
        clock.sleep(PERIOD)


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in wrap(text)]


def _progress(status: schema.Status) -> list[str]:
    found = status["progress"]
    if not found:
        return []
    done, total = found["done"], found["total"]
    if not total:
        return _indented(found["text"])
    full = min(BAR, BAR * done // total)
    head = f"[{'#' * full}{'.' * (BAR - full)}] {done} of {total} {found['kind']}"
    return _indented(f"{head}: {found['text']}")


def _waiting(status: schema.Status, now: float) -> list[str]:
    waiting = status["waiting"]
    if not waiting:
        return []
    error = status["error"]
    shown = waiting["for"] in (status["detail"], error["reason"] if error else "")
    what = "waits" if shown else f"waits: {waiting['for']}"
    if waiting["until"] is None:
        return [] if shown else _indented(what)
    return _indented(f"{what}, {duration(waiting['until'] - now)} at most from now on")


def _facts(status: schema.Status, now: float, paint: Callable[[str, str], str]) -> Iterator[str]:
    why = f" ({status['role_why']})" if status["role_why"] else ""
    yield ""
    yield from _labelled("role", f"{status['role']}{why}")
    for label, value in (
        ("control plane", status["control_plane"]),
        ("address", status["address"]),
        ("Kubernetes", status["kubernetes"]),
        ("fleet", status["fleet"]),
        ("node id", status["node_id"]),
    ):
        if value:
            yield from _labelled(label, value)
    if status["approval"]:
        yield from _labelled("to approve", f"sudo nodeagent approve {status['approval']}")
    for one in status["approvals"]:
        # Not all of it: what is typed must come from the node itself.
        said = f"{one['name']} at {one['address']}: sudo nodeagent approve {str(one['id'])[:4]}..."
        yield from _labelled("wants in", said)
    if status["certificates"]:
        first = min(status["certificates"], key=lambda one: float(one["expires"]))
        day = time.strftime("%Y-%m-%d", time.gmtime(first["expires"]))
        lines = _labelled("certificates", f"valid until {day} at least ({first['name']})")
        yield from (
            paint(YELLOW, line) if first["expires"] - now < SOON else line for line in lines
        )
    for token in status["tokens"]:
        if token["expires"] > now:
            left = duration(token["expires"] - now)
            yield from _labelled("token out", f"for {token['name']}, {left} more")


def _labelled(label: str, text: str) -> list[str]:
    first, *others = wrap(text, 62)
    return [f"  {label:<14} {first}", *(f"{'':<17}{line.strip()}" for line in others)]


def _step(step: schema.StepState) -> str:
    mark = {"done": "ok", "acting": "..", "planning": "..", "waiting": "wait"}.get(
        step.get("state", ""), "  "
    )
    seconds = step.get("seconds") or 0.0
    return f"    {mark:<5}{step['title'][:58]:<58} {seconds:>7.1f} s"


def _peer(peer: schema.Peer, now: float) -> str:
    phase = peer["phase"]
    if now - peer["heard"] > model.SILENT:
        phase = f"silent {duration(now - peer['heard'])}"[:16]
    return f"    {peer['name'][:22]:<22} {phase:<16} {peer['role']:<14} {peer['address']}"
