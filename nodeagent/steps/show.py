"""What the steps would do, as lines for people; and parts of their work done alone."""

from __future__ import annotations

from pathlib import Path

from nodeagent import steps
from nodeagent.config import settings as config
from nodeagent.errors import Usage
from nodeagent.host.actions import Action, FetchKey
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.privilege import need_root
from nodeagent.steps import engine
from nodeagent.steps.repositories import Repositories
from nodeagent.steps.step import Step


def show_plan(host: Host) -> tuple[list[str], bool]:
    """The sequence with the actions it would do now; True where there is something to do.

    Raises NeedsRoot, ConfigError, OSError.
    """
    need_root(host)
    settings = config.load(host).settings
    lines: list[str] = []
    pending = False
    for step, actions, blocked in engine.plan(steps.SEQUENCE, host, settings):
        if not actions and blocked is None:
            continue
        pending = True
        lines.append(f"{step.name}: {step.title}")
        lines += [f"  {action.show()}" for action in actions]
        if blocked is not None:
            lines += [f"  waits: {blocked.reason}", f"  do: {blocked.remedy}"]
    return lines or ["Nothing to do: every step holds."], pending


def prepare(root: Path, name: str | None) -> list[str]:
    """Do the file actions of the steps on an image below ``root``.

    Raises Usage for an unknown step, NotConverged where a step does not hold afterwards,
    Blocked, ConfigError, OSError.
    """
    host = Host(root.resolve())
    known = {step.name: step for step in steps.SEQUENCE if step.on_image}
    if name is not None and name not in known:
        raise Usage(f"There is no step {name!r} for images.", f"Known: {', '.join(known)}.")
    settings = config.load(host).settings
    lines: list[str] = []
    for step in [known[name]] if name else known.values():

        def say(action: Action, step: Step = step) -> None:
            lines.append(f"{step.name}: {action.show()}")

        engine.prepare(step, host, settings, say, files_only=True)
    return lines or ["Nothing to do: every step holds."]


def renew_keys(host: Host) -> None:
    """Fetch the keys of package repositories that have expired or soon will, as far as they can
    be had. Raises Blocked, ConfigError, OSError."""
    settings = config.load(host).settings
    for action in list(Repositories().plan(Facts(host), settings)):
        if isinstance(action, FetchKey) and action.noted:
            action.do(host)
