"""What people ask of a node on the command line, as functions that give lines of text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nodeagent import steps
from nodeagent.config import settings as config
from nodeagent.errors import CommandFailed, Refused
from nodeagent.host.actions import Action, FetchKey
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.privilege import need_root
from nodeagent.host.timesync import synchronised
from nodeagent.statefile import Journal
from nodeagent.steps import engine
from nodeagent.steps.repositories import Repositories
from nodeagent.steps.step import Step


def show_role(host: Host) -> str:
    """The role this node has or wishes, in one line."""
    need_root()
    journal = Journal(host)
    decided = journal.get("role")
    if journal.get("resetting") is not None:
        return "none: this node is being reset"
    leaving = journal.get("stepping_down")
    if leaving is not None:
        return f"{decided or 'undecided'}, on its way out; then {leaving.get('role', 'auto')}"
    if decided:
        return f"{decided} (decided)"
    return f"{config.load(host).settings.role} (not decided yet)"


def show_plan(host: Host) -> tuple[list[str], bool]:
    """The sequence with the actions it would do now; True where there is something to do."""
    need_root()
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

    Raises Refused for an unknown step, NotConverged where a step does not hold afterwards,
    Blocked, OSError.
    """
    host = Host(root.resolve())
    known = {step.name: step for step in steps.SEQUENCE if step.on_image}
    if name is not None and name not in known:
        raise Refused(f"There is no step {name!r} for images.", f"Known: {', '.join(known)}.")
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


def renewal_due(host: Host) -> bool:
    """True where the whole agent should renew certificates of the cluster: the clock is right and
    some end soon. Raises OSError."""
    from nodeagent.cluster import renewal

    leads = host.exists("/etc/kubernetes/admin.conf")
    return leads and synchronised(Facts(host)) and renewal.is_due(host, host.clock.now())


def show_config(host: Host) -> list[str]:
    """Each dotted key with its value and origin."""
    loaded = config.load(host)
    return [
        f"{name} = {_plain(origin.value)}  ({origin.where})"
        for name, origin in loaded.origins.items()
    ]


def _plain(value: object) -> str:
    if value is None:
        return "not set"
    return "[" + ", ".join(value) + "]" if isinstance(value, tuple) else str(value)


def join_command(host: Host) -> str:
    """What a person pastes on a machine without nodeagent. Raises Refused, CommandFailed."""
    from nodeagent.cluster import control_plane as node

    need_control_plane(host)
    return node.join_command(host)


def verify(host: Host, image: str | None) -> Iterator[str]:
    """A line for each part of the cluster's own test. Raises Refused, VerifyFailed,
    CommandFailed."""
    from nodeagent.cluster import acceptance as trial
    from nodeagent.cluster import cni

    need_control_plane(host)
    settings = config.load(host).settings
    image = image or f"{settings.kubernetes.image_repository}/{trial.AGNHOST}"
    try:
        yield from trial.verify(host, image, cni.chosen(settings))
    except CommandFailed as error:
        raise CommandFailed(
            error.reason, "Once `kubectl get nodes` answers, run it again."
        ) from error


def kubeconfig(host: Host, out: str | None) -> str:
    """The text of a kubeconfig, or where it was written. Raises Refused, OSError."""
    from nodeagent.cluster import admin_kubeconfig as laptop
    from nodeagent.trust.store import Trust

    need_control_plane(host)
    if out is not None and host.exists(out):
        raise Refused(f"{out} is already there.", "Choose another name, or move the file away.")
    text = laptop.kubeconfig(host, Trust.load(host).name)
    if out is None:
        return text
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    owner = (int(uid), int(gid)) if uid.isdecimal() and gid.isdecimal() else None
    host.write(out, text.encode(), 0o600, owner)
    return f"{out}: copy it to your laptop as ~/.kube/config, or name it in KUBECONFIG."


def need_control_plane(host: Host) -> None:
    """Raises Refused where this node leads no cluster, or the user is not root."""
    need_root()
    if not host.exists("/etc/kubernetes/admin.conf"):
        raise Refused(
            "This node is no control plane.",
            "Run the command on the control plane; `nodeagent status` names it.",
        )
