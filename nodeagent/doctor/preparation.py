"""The steps as checks: a plan without actions holds, a blocked one fails with its own reason."""

from __future__ import annotations

import os
from collections.abc import Callable

from nodeagent import steps
from nodeagent.cluster import packages as runtime
from nodeagent.doctor.finding import Check, Node, Seen, fail, unknown, warn, well
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action
from nodeagent.steps import clock, firewall, watchdog

Value = Callable[[Node], str]


def _architecture(node: Node) -> str:
    return node.facts.architecture


def _identity(node: Node) -> str:
    return node.facts.hostname


def _cgroup(node: Node) -> str:
    return "memory cgroup on"


def _swap(node: Node) -> str:
    return "off, now and at boot"


def _modules(node: Node) -> str:
    return "overlay, br_netfilter, vxlan loaded"


def _sysctls(node: Node) -> str:
    return "forwarding and bridge filtering on"


def _watchdog(node: Node) -> str:
    if not node.facts.any_of("/dev/watchdog", "/dev/watchdog0"):
        return "the board has none"
    armed = node.facts.ask("systemctl", "show", "-p", "RuntimeWatchdogUSec", "--value")
    after = armed.out.strip()
    if armed.status != 0 or after in watchdog.OFF:
        return "armed from the next boot on"
    return f"armed, {after}"


def _firewall(node: Node) -> str:
    owner = firewall.active(node.facts)
    return f"{owner} lets the cluster through" if owner else "nothing is closed"


def _network(node: Node) -> str:
    wanted = node.settings.network.interface
    return f"{node.facts.address(wanted)} on {node.facts.interface(wanted)}"


def _clock(node: Node) -> str:
    if clock.synchronised(node.facts):
        return "set by a time server"
    return "believable, but no time server has answered"


def _packages(node: Node) -> str:
    names = (runtime.containerd_package(node.facts, node.settings), *runtime.KUBERNETES)
    return ", ".join(f"{name} {node.facts.packages.version(name)}" for name in names)


# Step: its group, why it matters, and what is said where it holds. A step that is not here shows
# its title.
ABOUT: dict[str, tuple[str, str, Value]] = {
    "architecture": ("Board", "Kubernetes is published for 64-bit systems only.", _architecture),
    "watchdog": ("Board", "A board that hangs restarts by itself.", _watchdog),
    "identity": ("System", "Kubernetes knows nodes by their names.", _identity),
    "cgroup": ("System", "The kubelet limits pods with it, and kubeadm refuses to start without.",
               _cgroup),
    "swap": ("System", "The kubelet does not start while there is swap.", _swap),
    "modules": ("System", "Containers and the pod network are made with them.", _modules),
    "sysctls": ("System", "Without them pods reach neither Services nor other nodes.", _sysctls),
    "network": ("Network", "The node is known to the others by this address.", _network),
    "clock": ("Network", "Certificates, package lists and tokens are refused when it is off.",
              _clock),
    "ports": ("Network", "Another program on one of them keeps the cluster from starting.",
              lambda node: "free, or held by the cluster"),
    "firewall": ("Network", "The nodes talk to each other through these ports.", _firewall),
    "packages": ("Software", "The kubelet, kubeadm and containerd have to fit together.",
                 _packages),
    "containerd": ("Software", "It runs the containers.", lambda node: "runs as configured"),
}  # fmt: skip
# Steps whose commands answer an ordinary user with "permission denied".
AS_ROOT = frozenset({"firewall"})
ELSEWHERE = frozenset({"memory"})  # in ``board``, with the size for every role


def checks() -> tuple[Check, ...]:
    """One for each step of the sequence."""
    return tuple(_check(step) for step in steps.SEQUENCE if step.name not in ELSEWHERE)


def _check(step: steps.Step) -> Check:
    group, why, value = ABOUT.get(step.name, ("System", step.title, None))
    if step.name not in ABOUT and step in steps.SOFTWARE:
        group = "Software"

    def look(node: Node) -> Seen:
        return plan(step, node, value)

    return Check(step.name, group, f"{why.rstrip('.')}.", look)


def plan(step: steps.Step, node: Node, value: Value | None) -> Seen:
    """What the step would do now. Raises PermissionError for what this user may not see."""
    if step.name in AS_ROOT and node.facts.live and os.geteuid() != 0:
        raise PermissionError
    if node.trouble is not None:
        return unknown("waits for right settings", "See the check `settings`.")
    actions: list[Action] = []
    try:
        actions.extend(step.plan(node.facts, node.settings))
    except Blocked as blocked:
        return fail(blocked.reason, blocked.remedy)
    if not actions:
        return well(value(node) if value is not None else "as it should be")
    more = f", and {len(actions) - 1} more" if len(actions) > 1 else ""
    if node.status is not None:
        remedy = "The agent does it by itself; `nodeagent status` shows how far it is."
    else:
        remedy = "Start the agent, which does it: sudo systemctl start nodeagent"
    return warn(f"to do: {actions[0].show()}{more}", remedy)
