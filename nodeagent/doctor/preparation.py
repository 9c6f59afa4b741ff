"""The steps as checks: a plan without actions holds, a blocked one fails with its own reason."""

from __future__ import annotations

from nodeagent import steps
from nodeagent.doctor.finding import Check, Node, Seen, fail, unknown, warn, well
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action

ELSEWHERE = frozenset({"memory", "root-disk"})  # in ``hardware``, for every role and state


def checks() -> tuple[Check, ...]:
    """One for each step of the sequence."""
    return tuple(_check(step) for step in steps.SEQUENCE if step.name not in ELSEWHERE)


def _check(step: steps.Step) -> Check:
    why = step.why or step.title
    return Check(step.name, step.group, f"{why.rstrip('.')}.", lambda node: plan(step, node))


def plan(step: steps.Step, node: Node) -> Seen:
    """What the step would do now. Raises PermissionError for what this user may not see."""
    if step.needs_root and node.facts.live and not node.facts.host.is_root:
        raise PermissionError
    if node.trouble is not None:
        return unknown("waits for right settings", "See the check `settings`.")
    actions: list[Action] = []
    try:
        actions.extend(step.plan(node.facts, node.settings))
    except Blocked as blocked:
        return fail(blocked.reason, blocked.remedy)
    if not actions:
        return well(step.holds(node.facts, node.settings))
    more = f", and {len(actions) - 1} more" if len(actions) > 1 else ""
    if node.status is not None:
        remedy = "The agent does it by itself; `nodeagent status` shows how far it is."
    else:
        remedy = "Start the agent, which does it: sudo systemctl start nodeagent"
    return warn(f"to do: {actions[0].show()}{more}", remedy)
