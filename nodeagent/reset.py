"""``nodeagent reset``: the board as it was before the agent prepared it.

Each part can be repeated from any point, so after a power cut the same command finishes. The agent
is stopped and disabled first: a board that loses power half way must not form again by itself.
What is kept: the fleet identity (unless it shall be forgotten), settings, the host name, packages,
and the memory of the board, which gives a copied card an identity of its own at its next start.
"""

from __future__ import annotations

from collections.abc import Callable

from nodeagent import config, engine, steps, surfaces
from nodeagent.cluster import kubeadm, node, state
from nodeagent.errors import CommandFailed, Refused
from nodeagent.fleet import keys, trust
from nodeagent.fleet.ledger import FOLDER as BROKER
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.journal import PATH, Journal, JournalDamaged
from nodeagent.steer import need_root
from nodeagent.steps.board import is_member

Say = Callable[[str], None]

UNITS = (
    "nodeagent.service",
    "nodeagent-serve.service",
    "nodeagent-broker.socket",
    "nodeagent-broker.service",
)
KUBEADM = "/usr/bin/kubeadm"
# What kubeadm leaves to others (kubernetes.io, "kubeadm reset", cleanup of CNI configuration), and
# the data of etcd where its member could not be asked any more.
REMAINS = ("/etc/cni/net.d", "/var/lib/cni", "/run/flannel", "/var/lib/etcd", state.FOLDER)
VOLATILE = ("/run/nodeagent", "/run/nodeagent-serve")
SECRETS = (trust.FLEET_FILE, trust.LEAD_KEY_FILE, keys.PATH)


def what_is_lost(host: Host, forget_fleet: bool) -> list[str]:
    """Sentences for the person who has to confirm. Raises Refused for an ordinary user."""
    need_root()
    found = state.read(host)
    lines = []
    if found is state.State.CONTROL_PLANE:
        lines.append("This node leads the cluster: the cluster and all that runs in it are lost.")
    elif is_member(Facts(host)) or found is not state.State.NOTHING:
        lines.append("This node leaves its cluster; what runs on it and its local data are lost.")
    lines.append("Swap, boot files and system settings become what they were before.")
    if forget_fleet:
        lines.append(
            "The fleet's keys are deleted: to rejoin, the card needs nodeagent.fleet anew."
        )
    return lines


def reset(host: Host, forget_fleet: bool, say: Say) -> list[str]:
    """Do it; ``say`` gets a line for each thing done. What is left to do, for people.

    Raises ConfigError, Blocked, Refused, CommandFailed, NotConverged, OSError; the same call
    again then goes on.
    """
    need_root()
    if not host.live:
        raise Refused("An image cannot be reset, only a running board.", "Run it on the board.")
    try:
        return _reset(host, forget_fleet, say)
    except CommandFailed as error:
        raise CommandFailed(error.reason, "Put that right, then run the reset again.") from error


def _reset(host: Host, forget_fleet: bool, say: Say) -> list[str]:
    # First: a wrong settings file stops this before anything is changed.
    settings = config.load(host).settings
    leading = host.exists("/etc/kubernetes/admin.conf")
    joined = is_member(Facts(host)) and not leading
    name = Facts(host).node_name
    say("stop the agent")
    stop(host)
    leave_cluster(host, say)
    for step in reversed(steps.SEQUENCE):
        if isinstance(step, steps.Undoable):
            engine.undo_step(step, host, settings, say)
    surfaces.withdraw(host)
    say("forget the role")
    forget(host, forget_fleet)
    host.run("systemctl", "daemon-reload")
    host.run("sync", timeout=kubeadm.SYNC_BOUND)
    todo = ["Reboot the board: the kernel keeps some of it until then."]
    if joined:
        todo.append(f"On the control plane run: kubectl delete node {name}")
    todo.append(
        "To start anew: sudo systemctl enable --now nodeagent nodeagent-serve"
        + (", after nodeagent.fleet is on the boot partition again." if forget_fleet else "")
    )
    return todo


def stop(host: Host) -> None:
    """Stop and disable the agent and what belongs to it. Raises Blocked, CommandFailed."""
    host.call("systemctl", "disable", "--now", *UNITS, timeout=180)
    # One that the agent had begun goes on without it (KillMode=process).
    kubeadm.alone(host)


def leave_cluster(host: Host, say: Say) -> None:
    """kubeadm reset, and what it leaves. Raises CommandFailed."""
    node.remove_user_kubeconfig(host)  # first: it is recognised by the mark in it
    if host.exists(KUBEADM):
        say("kubeadm reset")
        host.call(
            "kubeadm", "reset", "--force", "--cri-socket", kubeadm.SOCKET,
            timeout=kubeadm.RESET_BOUND,
        )  # fmt: skip
    elif state.read(host) is not state.State.NOTHING:
        raise Refused(
            "This node is part of a cluster, and kubeadm, which takes it out, is not installed.",
            "Run `sudo apt-get install kubeadm`, then the reset again.",
        )
    for device in kubeadm.DEVICES:
        if host.exists(f"/sys/class/net/{device}"):
            host.call("ip", "link", "delete", device)
    remove_trees(host, *REMAINS)


def forget(host: Host, forget_fleet: bool) -> None:
    """Role, claim, epoch and what the broker kept. Raises CommandFailed, OSError."""
    remove_trees(host, BROKER, *VOLATILE)
    host.remove(config.ROLE_FILE)
    if forget_fleet:
        for path in SECRETS:
            host.shred(path)
    try:
        journal = Journal(host)
    except JournalDamaged:
        host.remove(PATH)
        journal = Journal(host)
    # Counters that the fleet's other nodes remember: begun anew, they would take us for an echo.
    kept = {"history", "board", "epoch", "starts"} | (set() if forget_fleet else {"imported"})
    journal.note("reset")
    journal.set(**{name: None for name in journal.names() if name not in kept})


def remove_trees(host: Host, *paths: str) -> None:
    """Remove folders with all that is in them; missing ones are no error. Raises CommandFailed."""
    there = [path for path in paths if host.exists(path)]
    if there:
        host.call("rm", "-rf", "--", *there, timeout=kubeadm.RESET_BOUND)
