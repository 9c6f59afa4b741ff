"""``nodeagent role``: look at the node's state, say what a change leads to, and begin it.

The command only writes the intent to the journal. The agent carries it out at its start
(``leave``), so what is begun here ends by itself, whether this terminal or the power goes away.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.agent import leave, role_table
from nodeagent.agent.role_table import Choose, Leave, Nothing, Situation, Way
from nodeagent.cluster import control_plane, kubeadm, kubeadm_state, workloads
from nodeagent.config import settings as config
from nodeagent.errors import CommandFailed, FleetError, NoControlPlane, OtherVersion, Refused
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.privilege import need_root
from nodeagent.join import which_cluster
from nodeagent.statefile import State, StateFile
from nodeagent.trust import fleet_file, wire
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import CARD_FILES, Trust

UNITS = ("nodeagent.service", "nodeagent-serve.service")
STOP_BOUND = 180  # seconds
ASKED = 8  # control planes asked, at most: an answer may take a minute


@dataclass(frozen=True)
class Plan:
    """What comes of a wish. ``lines`` are for people to read and, where ``leaves``, to confirm."""

    wish: str
    way: Way

    @property
    def leaves(self) -> bool:
        """True where the node leaves a cluster."""
        return isinstance(self.way, Leave)

    @property
    def lines(self) -> tuple[str, ...]:
        """What will happen."""
        return self.way.lines if isinstance(self.way, Leave) else ()


def show(host: Host) -> str:
    """The role this node has or wishes, in one line. Raises NeedsRoot, ConfigError,
    StateFileDamaged, OSError."""
    need_root(host)
    state_file = StateFile(host)
    decided = state_file.values["role"]
    if state_file.values["resetting"] is not None:
        return "none: this node is being reset"
    wish = state_file.values["stepping_down"]
    if wish is not None:
        return f"{decided or 'undecided'}, on its way out; then {wish.get('role', 'auto')}"
    if decided:
        return f"{decided} (decided)"
    return f"{config.load(host).settings.role} (not decided yet)"


def foresee(host: Host, wish: str, end_cluster: bool) -> Plan:
    """What the wish leads to; changes nothing. Raises Refused, ConfigError, StateFileDamaged,
    OSError."""
    need_root(host)
    if StateFile(host).values["resetting"] is not None:
        raise Refused(
            "A reset of this node was begun, and has to end first.",
            "The agent ends it by itself; or run `sudo nodeagent reset` again.",
        )
    return Plan(wish, role_table.way(look(host), wish, end_cluster))


def begin(host: Host, plan: Plan) -> str:
    """Write the wish, or the intent to leave first; the agent does the rest. What to tell.

    Raises ConfigError, CommandFailed, OSError.
    """
    if isinstance(plan.way, Nothing):
        return plan.way.why
    if isinstance(plan.way, Choose):
        host.make_folder(config.DROP_INS)
        host.write(config.ROLE_FILE, f"role: {plan.wish}\n".encode())
        role = config.load(host).settings.role
        return f"The role is {role}; the agent takes it up now. See: nodeagent status"
    # An agent that runs would write its own memory of the journal over ours.
    host.call("systemctl", "stop", "nodeagent.service", timeout=STOP_BOUND)
    try:
        state_file = StateFile(host)
        intent: State = {"stepping_down": {"role": plan.wish}}
        if plan.way.anew:  # the card file has just been copied, by something that syncs nothing
            host.run("sync", timeout=kubeadm.SYNC_BOUND)
            intent["imported"] = None
        state_file.set(**intent)
        state_file.note("role changes", wish=plan.wish)
    finally:
        host.call("systemctl", "start", "--no-block", *UNITS, timeout=STOP_BOUND)
    return "Begun; it goes on by itself. See: nodeagent status --watch"


def look(host: Host) -> Situation:
    """How this node stands. Asks its cluster and the fleet's control planes only where that
    matters. Raises ConfigError, StateFileDamaged, OSError."""
    state_file, found = StateFile(host), kubeadm_state.read(host)
    decided = state_file.values["role"] or ""
    expected = config.load(host).settings.expected_nodes or 0
    out = state_file.values["stepping_down"] is not None
    if found is kubeadm_state.State.CONTROL_PLANE and not out:
        others, empty = _inside(host)
        return Situation(found, decided, others=others, empty=empty, expected=expected)
    try:
        trust = Trust.load(host)
    except FleetError:
        return Situation(found, decided, out, may_lead=None, expected=expected)
    leader, own = "", False
    if decided or out or found is not kubeadm_state.State.NOTHING:
        leader, own = _leader(host, state_file, trust)
    return Situation(
        found, decided, out, trust.may_lead, _card_leads(host, trust), leader, own,
        expected=expected,
    )  # fmt: skip


def _inside(host: Host) -> tuple[tuple[str, ...] | None, bool | None]:
    """The other nodes of the cluster that this one leads, and whether nobody's workloads are in
    it; None for what cannot be looked up."""
    name = Facts(host).node_name
    try:
        others = tuple(sorted(one.name for one in control_plane.nodes(host) if one.name != name))
        # Each look costs a small board ten seconds, and other nodes are reason enough to ask.
        return others, None if others else workloads.idle(host)
    except CommandFailed:
        return None, None


def _leader(host: Host, state_file: StateFile, trust: Trust) -> tuple[str, bool]:
    """Name of a control plane of the fleet that proves itself, and whether this node's cluster is
    its; its own one's before any other. ("", False) where none answers."""
    key = NodeKey.load_or_create(host)
    own = hashlib.sha256(host.read(paths.KUBERNETES_CA) or b"").hexdigest()
    found = ""
    for where in leave.places(host, state_file, trust)[:ASKED]:
        try:
            side = which_cluster.ask(trust, key, host, where)
        except NoControlPlane:
            continue
        if side.node_id == key.node_id:
            continue  # an echo of itself
        if side.cluster == own:
            return side.name, True
        found = found or side.name
    return found, False


def _card_leads(host: Host, trust: Trust) -> bool:
    """True where a card file of this fleet with the issuer's key is on the boot partition."""
    for path in CARD_FILES:
        try:
            card = fleet_file.parse(host.read(path) or b"")
        except (OtherVersion, wire.Malformed):
            continue
        if card.fleet_id == trust.fleet_id:
            return card.control_plane_key is not None
    return False
