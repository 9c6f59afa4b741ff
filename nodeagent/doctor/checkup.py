"""Runs all checks on a node; a failure in one does not stop the others."""

from __future__ import annotations

from nodeagent import paths
from nodeagent.config import settings as config
from nodeagent.doctor import cluster, hardware, preparation, system
from nodeagent.doctor.finding import Check, Finding, Node, Seen, unknown
from nodeagent.errors import ConfigError, NodeAgentError, OtherVersion
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.status import model

GROUPS = ("Board", "Disk", "System", "Network", "Software", "Fleet", "Cluster")
ROOT = unknown("needs root", "Run: sudo nodeagent doctor")


def examine(host: Host, online: bool = False) -> list[Finding]:
    """Every check's finding, by group. Changes nothing and raises nothing."""
    node = look(host, online)
    found = [one for check in checks() if (one := finding(check, node)) is not None]
    return sorted(found, key=lambda one: GROUPS.index(one.group))


def checks() -> tuple[Check, ...]:
    """All checks; within a group in this order."""
    return (*hardware.CHECKS, *system.CHECKS, *preparation.checks(), *cluster.CHECKS)


def look(host: Host, online: bool = False) -> Node:
    """What the checks are told; settings that are wrong and a missing status are no obstacle."""
    trouble: NodeAgentError | None = None
    loaded = config.Loaded(config.Settings(), {})
    try:
        loaded = config.load(host)
    except NodeAgentError as error:
        trouble = error
    except OSError as error:
        trouble = ConfigError(
            f"The settings cannot be read: {error.strerror or error}.", "Check the card for faults."
        )
        trouble.__cause__ = error
    running = None
    try:
        data = host.read(paths.STATUS)
        running = model.parse(data) if data is not None else None
    except (OSError, ValueError, OtherVersion):
        pass  # the check of the agent says that there is none
    return Node(Facts(host), loaded.settings, trouble, running, online, loaded.overruled)


def finding(check: Check, node: Node) -> Finding | None:
    """One check's finding; None where it has nothing to say on this machine."""
    seen: Seen | None
    try:
        seen = check.look(node)
    except PermissionError:
        seen = ROOT
    except NodeAgentError as error:
        seen = unknown(error.reason, error.remedy)
    except Exception as error:  # noqa: BLE001  a doctor who faints helps nobody
        seen = unknown(
            f"the check failed: {type(error).__name__}: {error}",
            "Please report this with the output of `nodeagent doctor --json`.",
        )
    if seen is None:
        return None
    return Finding(check.name, check.group, seen.level, seen.value, check.why, seen.remedy)
