"""``nodeagent reset``: the board as it was before the agent prepared it.

The intent is in the journal before anything is changed, and each part can be repeated from any
point: after a power cut the agent's next start ends the reset, and then itself. A board that was
reset never forms again by itself.

What is kept: packages, settings, and who the board is: the fleet's keys, the node key, the host
name. With ``identity`` the keys are deleted and the name is given back, here and to the fleet.
Always kept are machine id and SSH host keys, also where the agent made them anew: what a copied
card had before them was another board's; and the memory of the board, which gives a copied card an
identity of its own at its next start.
"""

from __future__ import annotations

import contextlib
import logging

from nodeagent import paths, steps
from nodeagent.agent import leave, surfaces
from nodeagent.agent.leave import Say
from nodeagent.agent.reporter import Reporter
from nodeagent.agent.role_table import MOVES, not_ours
from nodeagent.cluster import kubeadm, kubeadm_state
from nodeagent.cluster.membership import is_member
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import CommandFailed, FleetError, OtherVersion, Refused, StateFileDamaged
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.privilege import need_root
from nodeagent.statefile import PATH, StateFile
from nodeagent.steps import engine
from nodeagent.steps.identity import FormerName
from nodeagent.trust import node_key
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import FLEET_FILE, LEAD_KEY_FILE, Trust

LOG = logging.getLogger("nodeagent")

UNITS = (
    "nodeagent.service",
    "nodeagent-serve.service",
    *leave.BROKER_UNITS,
)
VOLATILE = (paths.RUN, paths.SERVE)
SECRETS = (FLEET_FILE, LEAD_KEY_FILE, node_key.PATH)
STOP_BOUND = 180  # seconds


def what_is_lost(host: Host, identity: bool) -> list[str]:
    """Sentences for the person who has to confirm. Raises Refused for an ordinary user, and on a
    node of somebody else's cluster."""
    need_root(host)
    _check_whose(host)
    found = kubeadm_state.read(host)
    lines = []
    if found is kubeadm_state.State.CONTROL_PLANE:
        lines.append("This node leads the cluster: the cluster and all that runs in it are lost.")
    elif is_member(Facts(host)) or found is not kubeadm_state.State.NOTHING:
        lines.append(MOVES)
    lines.append("Swap, boot files and system settings become what they were before.")
    if identity:
        lines.append(
            "The fleet's keys and this node's are deleted, and it gets its former host name back:"
            " to rejoin, as a new board, the card needs nodeagent.fleet anew."
        )
    return lines


def reset(host: Host, identity: bool, say: Say) -> list[str]:
    """Do it; ``say`` gets a line for each thing done. What is left to do, for people.

    Raises ConfigError, OtherVersion, Blocked, Refused, CommandFailed, NotConverged, OSError; the
    same call again then goes on.
    """
    need_root(host)
    if not host.live:
        raise Refused("An image cannot be reset, only a running board.", "Run it on the board.")
    try:
        return _reset(host, identity, say)
    except CommandFailed as error:
        raise CommandFailed(error.reason, "Put that right, then run the reset again.") from error


def _reset(host: Host, identity: bool, say: Say) -> list[str]:
    # First: a wrong settings file stops this before anything is changed.
    settings = config.load(host).settings
    _check_whose(host)
    say("stop the agent")
    host.call("systemctl", "stop", *UNITS, timeout=STOP_BOUND)
    # One that the agent had begun goes on without it (KillMode=process).
    kubeadm.alone(host)
    state_file = _journal(host)
    # From here on the agent ends it after a power cut, as it would a change of role.
    state_file.set(resetting={"identity": identity})
    left = _undo(host, settings, state_file, identity, say)
    anew = ", after nodeagent.fleet is on the boot partition again." if identity else ""
    return [
        "Reboot the board: the kernel keeps some of it until then.",
        *([left] if left else []),
        f"To start anew: sudo systemctl enable --now nodeagent nodeagent-serve{anew}",
    ]


def _check_whose(host: Host) -> None:
    """Raises Refused where somebody else has set Kubernetes up here, whose data are lost with it;
    OtherVersion. Half-way out of a cluster of the agent's own, what is left may look so too."""
    leaving = False
    with contextlib.suppress(StateFileDamaged):
        values = StateFile(host).values
        leaving = values["resetting"] is not None or values["stepping_down"] is not None
    if not leaving and kubeadm_state.read(host) is kubeadm_state.State.FOREIGN:
        raise not_ours()


def resume(host: Host, reporter: Reporter, state_file: StateFile) -> None:
    """The agent's first work: end a reset that was cut off, then itself. Nothing where none was.

    Raises as ``reset``; the same call again then goes on.
    """
    intent = state_file.values["resetting"]
    if intent is None:
        return
    settings = config.load(host).settings
    reporter.enter("preparing", "Ending the reset that was cut off")

    def say(text: str) -> None:
        LOG.info("reset: %s", text)

    host.call("systemctl", "stop", *UNITS[1:], timeout=STOP_BOUND)
    kubeadm.alone(host)
    left = _undo(host, settings, state_file, bool(intent.get("identity")), say)
    LOG.info("The reset is done, and the agent is off. %s", left)
    host.call("systemctl", "stop", "--no-block", UNITS[0])
    while True:  # systemd ends this process
        host.clock.sleep(STOP_BOUND)


def _undo(host: Host, settings: Settings, state_file: StateFile, identity: bool, say: Say) -> str:
    """All of it, from whatever point; what people still have to do, empty where nothing is."""
    left = leave.leave(host, state_file, say, *_proof(host), final=identity)
    for step in reversed(steps.SEQUENCE):
        if isinstance(step, steps.Undoable):
            engine.undo_step(step, host, settings, say)
    if identity:
        engine.undo_step(FormerName(), host, settings, say)
    surfaces.withdraw(host)
    say("forget the role")
    host.remove(config.ROLE_FILE)
    if identity:
        for path in SECRETS:
            host.shred(path)
    # The agent last: until it is off, and on the disk, it is what ends this after a power cut.
    for units in (UNITS[1:], UNITS[:1]):
        host.call("systemctl", "disable", *units, timeout=STOP_BOUND)
        host.run("sync", timeout=kubeadm.SYNC_BOUND)
    host.run("systemctl", "daemon-reload")
    # Counters that the fleet's other nodes remember: begun anew, they would take us for an echo.
    kept = {"history", "board", "epoch", "starts"} | (set() if identity else {"imported"})
    state_file.note("reset")
    # Last, and after the agent is off: a board must not form again by itself.
    state_file.set(**{name: None for name in state_file.names() if name not in kept})
    leave.remove_trees(host, *VOLATILE)
    return left


def _journal(host: Host) -> StateFile:
    try:
        return StateFile(host)
    except StateFileDamaged:
        host.remove(PATH)
        return StateFile(host)


def _proof(host: Host) -> tuple[Trust | None, NodeKey | None]:
    """What a worker takes its leave with; nothing where it cannot be read."""
    try:
        trust = Trust.load(host)
        return trust, NodeKey.load_or_create(host)
    except (FleetError, OtherVersion):
        return None, None
