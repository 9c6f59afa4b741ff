"""Checks of the fleet's keys, the agent, and the node's part in the cluster."""

from __future__ import annotations

from datetime import UTC, datetime

from nodeagent import paths
from nodeagent.cluster import addresses, health
from nodeagent.doctor.finding import Check, Node, Seen, fail, unknown, warn, well
from nodeagent.errors import FleetError, OtherVersion, StateFileDamaged
from nodeagent.statefile import StateFile
from nodeagent.trust.store import CARD_FILES, Trust

PKI = (paths.KUBERNETES_PKI, paths.ETCD_PKI)
SOON, DAY = 30, 86400.0  # days, seconds
START = "sudo systemctl start nodeagent"


def fleet(node: Node) -> Seen:
    """The node has its fleet's keys."""
    host = node.facts.host
    try:
        trust = Trust.load(host)
    except FleetError as error:
        card = next((path for path in CARD_FILES if host.exists(path)), None)
        if card is not None and "no fleet yet" in error.reason:
            return warn(f"{card} is not taken over yet", f"The agent does it: {START}")
        return fail(error.reason, error.remedy)
    leads = "may lead" if trust.may_lead else "may not lead"
    return well(f"{trust.name}, {leads}")


def state_file(node: Node) -> Seen:
    """Readable; which role is in it."""
    try:
        role = StateFile(node.facts.host).values["role"]
    except (StateFileDamaged, OtherVersion) as error:
        return fail(error.reason, error.remedy)
    return well(f"role {role}" if role else "no role decided yet")


def agent(node: Node) -> Seen:
    """It runs, and how far it is."""
    status = node.status
    if status is None or not node.facts.exists(f"/proc/{status['pid']}"):
        return fail("nodeagent is not running", f"Start it: {START}")
    if status["error"]:
        error = status["error"]
        level = fail if status["phase"] == "failed" else warn
        return level(f"{status['phase']}: {error['reason']} ({error['code']})", error["remedy"])
    if status["phase"] == "ready":
        return well("ready")
    return warn(f"{status['phase']}: {status['detail']}", "Wait; `nodeagent status` follows it.")


def kubelet(node: Node) -> Seen:
    """It answers its own health check."""
    if not node.facts.exists(paths.KUBELET_CONF):
        return well("not needed yet: the node is in no cluster")
    if health.kubelet_healthy():
        return well("healthy")
    return fail("does not answer", "It restarts by itself; if it stays: journalctl -u kubelet")


def control_plane(node: Node) -> Seen:
    """The API server takes connections."""
    told = node.status["control_plane"] if node.status else ""
    # With the port on a worker, without on the control plane itself.
    address = addresses.host_of(told) if told.count(":") == 1 or "]" in told else told
    if not node.facts.exists(paths.KUBELET_CONF):
        return well("not needed yet: the node is in no cluster")
    if not address:
        return unknown("not known: the agent is not running", f"Start it: {START}")
    if health.answers(address, paths.API_PORT, 2.0):
        return well(f"{address}:{paths.API_PORT} answers")
    return fail(
        f"{address}:{paths.API_PORT} does not answer",
        "Check that the control plane is powered on and on this network; see `nodeagent status`"
        " there.",
    )


def certificates(node: Node) -> Seen | None:
    """The cluster's certificates on this node are valid now, and for a while."""
    from nodeagent.cluster import renewal

    if not node.facts.exists(paths.KUBELET_CONF):
        return None
    files = [
        f"{folder}/{name}"
        for folder in PKI
        for name in node.facts.names(folder)
        if name.endswith(".crt")
    ]
    ahead = renewal.born_ahead(node.facts.host, node.facts.now)
    if ahead is not None:
        return fail(ahead.reason, ahead.remedy)
    ends = {
        path: end
        for path in (*files, paths.KUBELET_CLIENT)
        if (end := _end(node, path)) is not None
    }
    if not ends:
        return unknown("there are none")
    first = min(ends, key=lambda path: ends[path])
    days = (ends[first] - node.facts.now) / DAY
    day = datetime.fromtimestamp(ends[first], UTC).strftime("%Y-%m-%d")
    renew = "The agent renews it once the clock is synchronised: journalctl -u nodeagent."
    if days < 0:
        return fail(f"{first} ended on {day}", renew)
    if days < SOON:
        return warn(f"{first} ends on {day}", renew)
    return well(f"valid until {day} at least")


def _end(node: Node, path: str) -> float | None:
    """When the certificate in a file ends, in seconds since the epoch."""
    from nodeagent.cluster import credentials

    data = node.facts.read(path)
    return None if data is None else credentials.ends(data)


CHECKS = (
    Check("fleet", "Fleet", "Only nodes with the fleet's keys find each other and may join.",
          fleet),
    Check("journal", "Fleet", "The agent remembers there what was decided.", state_file),
    Check("agent", "Cluster", "It prepares the node and keeps it in the cluster.", agent),
    Check("kubelet-health", "Cluster", "It starts the pods of this node.", kubelet),
    Check("control-plane", "Cluster", "The node takes its orders from there.", control_plane),
    Check("certificates", "Cluster",
          "With one that has ended the parts of the cluster refuse each other.", certificates),
)  # fmt: skip
