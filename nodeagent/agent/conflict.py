"""Two control planes of one fleet: they ask each other, and the younger gives way where it can.

``split`` judges; here the facts are gathered. Giving way is written to the journal first, and
``leave`` carries it out, so a power cut in its middle only delays it. Afterwards the node is an
ordinary one, and joins whoever proves to lead the fleet.
"""

from __future__ import annotations

import hashlib
import json
import logging

from nodeagent import formats, paths
from nodeagent.agent import leave, provision
from nodeagent.agent.reporter import Reporter
from nodeagent.agent.rival_watch import RIVAL
from nodeagent.cluster import workloads
from nodeagent.errors import CommandFailed, NoControlPlane, OtherVersion
from nodeagent.fleet.beacon import EPOCH_MAX
from nodeagent.fleet.rivals import Side, Verdict, judge
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.join import which_cluster
from nodeagent.paths import ENDPOINT
from nodeagent.statefile import StateFile
from nodeagent.trust import wire
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust

LOG = logging.getLogger("nodeagent")

SIDE = f"{ENDPOINT}/cluster.json"  # what the endpoint answers to GET, for nodeagent 0.2.0


def cluster_id(host: Host) -> str:
    """What the cluster of this node is called where control planes meet (``Side.cluster``)."""
    ca_cert = host.read(paths.KUBERNETES_CA) or b""
    return hashlib.sha256(ca_cert.strip() + b"\n").hexdigest()  # as kubeadm writes the file


def publish(
    host: Host,
    state_file: StateFile,
    trust: Trust,
    node_id: str,
    alone: bool | None,
    off: tuple[str, ...] = (),
) -> Side:
    """Write what this control plane tells of its cluster; see ``Side``. Raises FleetError,
    OSError."""
    side = Side(
        node_id=node_id,
        name=Facts(host).node_name or "unnamed",
        cluster=cluster_id(host),
        epoch=min(state_file.values["epoch"] or 0, EPOCH_MAX),
        born=int(state_file.values["born"] or 0),
        alone=alone,
        off=off,
    )
    host.write(SIDE, side.to_json(), 0o644)
    provision.tell(host, which_cluster.build(trust, side, host.clock.now()))
    return side


def meet(host: Host, address: str, port: int) -> str:
    """Ask the control plane there, and say what follows (``split.Verdict``). Changes nothing but
    what this node tells. Raises NoControlPlane, FleetError, OSError."""
    trust, key = Trust.load(host), NodeKey.load_or_create(host)
    return _judged(host, StateFile(host), trust, key, (address, port))[0].value


def give_way(
    host: Host, reporter: Reporter, state_file: StateFile, trust: Trust, key: NodeKey
) -> None:
    """Where the keeper found a cluster to give way to, a person has said so, or it was begun: leave
    the own one.

    Nothing is done where the other does not prove itself once more, or somebody has moved in.
    Raises Blocked, CommandFailed, OSError; the same call again then goes on.
    """
    begun = state_file.values["stepping_down"] is not None
    if not begun and not _is_due(host, reporter, state_file, trust, key):
        return
    leave.step_down(host, reporter, state_file, trust, key)


def _is_due(
    host: Host, reporter: Reporter, state_file: StateFile, trust: Trust, key: NodeKey
) -> bool:
    where = _rival(host)
    if where is None or state_file.values["role"] != "control-plane":
        return False
    reporter.set(detail="Asking the fleet's other control plane")
    # Nobody may move in between the last look and the reset.
    for unit in leave.BROKER_UNITS:
        host.run("systemctl", "stop", unit, timeout=60)
    try:
        verdict, other = _judged(host, state_file, trust, key, where)
    except NoControlPlane as error:
        LOG.info("%s", error.reason)
        return False
    if verdict is not Verdict.STEP_DOWN:
        return False
    state_file.set(stepping_down={"node": other.node_id, "name": other.name})
    state_file.note("steps down", control_plane=other.name)
    return True


def _rival(host: Host) -> tuple[str, int] | None:
    """Whom the keeper saw; once, so that a wrong hint is not followed again and again."""
    data = host.read(RIVAL)
    if data is None:
        return None
    host.remove(RIVAL)
    try:
        where = json.loads(data)
        formats.check(where[formats.KEY], RIVAL)
        return wire.address(where["address"]), wire.port(where["port"])
    except (ValueError, KeyError, TypeError, OtherVersion):
        return None


def _judged(
    host: Host, state_file: StateFile, trust: Trust, key: NodeKey, where: tuple[str, int]
) -> tuple[Verdict, Side]:
    """The verdict over the cluster that the control plane at ``where`` proves to have."""
    theirs = which_cluster.ask(trust, key, host, where)
    try:
        alone = workloads.alone(host, Facts(host).node_name)
    except CommandFailed as error:
        LOG.info("whether the cluster is empty is not known: %s", error.reason)
        alone = False
    return judge(publish(host, state_file, trust, key.node_id, alone), theirs), theirs
