"""Runs a sequence: plan, act, plan again (must be empty), record, reboot once, resume.

Crash-only: there is no recovery path. Each run plans from the world as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked, NodeAgentError, NotConverged
from nodeagent.host.actions import Action, Reboot
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.reboot import boot_id
from nodeagent.statefile import StateFile
from nodeagent.steps.step import Step, Undoable


@dataclass(frozen=True)
class Progress:
    """What the engine tells while it works: the step, the action (None: looking), seconds."""

    step: Step
    action: Action | None
    state: str  # "planning" | "acting" | "done"
    seconds: float = 0.0


Report = Callable[[Progress], None]


def plan(
    sequence: Sequence[Step], host: Host, settings: Settings
) -> list[tuple[Step, list[Action], NodeAgentError | None]]:
    """What each step would do now; changes nothing. Steps see the world as it is."""
    facts = Facts(host)
    planned: list[tuple[Step, list[Action], NodeAgentError | None]] = []
    for step in sequence:
        actions: list[Action] = []
        blocked: NodeAgentError | None = None
        try:
            for action in step.plan(facts, settings):
                actions.append(action)
        except Blocked as error:
            blocked = error
        except OSError as error:
            blocked = Blocked(
                f"{error.filename or 'A file'} cannot be read: {error.strerror or error}.",
                "Check the card for faults.",
            )
        planned.append((step, actions, blocked))
    return planned


def run(
    sequence: Sequence[Step], host: Host, settings: Settings, state_file: StateFile, report: Report
) -> list[Reboot]:
    """Bring every step to hold, and give the reboots that are still needed (asked once each).

    Raises Blocked where a step waits for the world, NotConverged where a step does not hold
    after its actions or after the reboot it asked for, CommandFailed and OSError as they come.
    """
    reboots: list[Reboot] = []
    for step in sequence:
        begun = host.clock.monotonic()
        reboots += run_step(step, host, settings, state_file, report)
        report(Progress(step, None, "done", host.clock.monotonic() - begun))
    return reboots


def run_step(
    step: Step, host: Host, settings: Settings, state_file: StateFile, report: Report
) -> list[Reboot]:
    """One step: plan, act, plan again. Gives the reboots that it asks for."""
    report(Progress(step, None, "planning"))
    # Listing first: a plan that is Blocked half-way must not leave its first half done.
    actions = list(step.plan(Facts(host), settings))
    for action in actions:
        report(Progress(step, action, "acting"))
        action.do(host)
    left = list(step.plan(Facts(host), settings)) if actions else []
    reboots = [action for action in left if isinstance(action, Reboot)]
    others = [action for action in left if not isinstance(action, Reboot)]
    if others:
        raise NotConverged(
            f"Step {step.name} does not hold after its actions; still to do: {others[0].show()}.",
            "The agent tries again; if it stays, please report it with `nodeagent plan`.",
        )
    asked = state_file.values["reboots"] or {}
    if not left and step.name in asked:
        # It took. Should a later update of the system undo it, a new reboot may be asked for.
        state_file.set(reboots={token: at for token, at in asked.items() if token != step.name})
    for reboot in reboots:
        if asked.get(reboot.token) not in (None, boot_id(host)):
            raise NotConverged(reboot.verdict, reboot.remedy)
    return reboots


def prepare(
    step: Step, host: Host, settings: Settings, say: Callable[[Action], None], files_only: bool
) -> None:
    """One step on an image: act, and look that it holds. ``files_only`` leaves out what only a
    system's own programs can do. ``say`` gets each action when it is done.

    Raises NotConverged, Blocked, CommandFailed, OSError.
    """

    def needed() -> list[Action]:
        actions = step.plan(Facts(host), settings)
        return [action for action in actions if action.file_only or not files_only]

    for action in needed():
        action.do(host)
        say(action)
    left = needed()
    if left:
        raise NotConverged(
            f"Step {step.name} does not hold on {host.root}: {left[0].show()}.",
            "Check that the image is writable.",
        )


def undo_step(step: Undoable, host: Host, settings: Settings, say: Callable[[str], None]) -> None:
    """Take back what a step left: act, and look that nothing is left. ``say`` gets each action.

    Raises NotConverged, CommandFailed, OSError; it may then be done again.
    """
    actions = list(step.undo(Facts(host), settings))
    for action in actions:
        say(f"{step.name}: {action.show()}")
        action.do(host)
    left = list(step.undo(Facts(host), settings)) if actions else []
    if left:
        raise NotConverged(
            f"Step {step.name} could not be taken back; still to do: {left[0].show()}.",
            "Run the reset again; if it stays, please report it.",
        )


def ask_reboot(reboots: Sequence[Reboot], host: Host, state_file: StateFile) -> None:
    """Record durably that these reboots are asked for in this boot, before rebooting."""
    asked = dict(state_file.values["reboots"] or {})
    asked |= {reboot.token: boot_id(host) for reboot in reboots}
    state_file.set(reboots=asked)
    state_file.note("reboot", reasons=[reboot.reason for reboot in reboots])
