"""What ``nodes``, ``approve``, ``revoke``, ``forget`` and ``seal`` ask the broker of this control
plane, and its answers as lines for people. The broker decides and remembers."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from typing import Any

from nodeagent.cluster import control_plane, only_node, revoked
from nodeagent.cluster.privilege import need_control_plane
from nodeagent.config import checks
from nodeagent.errors import Blocked, CommandFailed, NodeAgentError, OtherVersion, Refused, Usage
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol
from nodeagent.join.approval import code, read_code, second_name
from nodeagent.trust import wire

BY_HAND = (
    "The token {token}, of `kubeadm token create`, lets nobody in here. To add a machine without"
    " nodeagent type `sudo nodeagent join-command`; `sudo kubeadm token delete {token}` removes it."
)
Rows = list[tuple[str, ...]]
LONGEST = 366 * 86400  # seconds that enrolment may be opened for
AHEAD = 3600  # seconds that a clock may have been ahead before people are told


def ask(host: Host, op: str, **message: object) -> Any:
    """What the broker of this control plane answers, each key checked: root shows it and acts on
    it, and the broker may be taken over. Raises Refused for an ordinary user, on another node and
    where the broker refuses; OtherVersion; Blocked where it does not answer; CommandFailed."""
    need_control_plane(host)
    try:
        answer = broker_protocol.call(
            str(host.path(broker_protocol.ROOT_SOCKET)), {"op": op, **message},
            broker_protocol.MAX_LISTED,
        )  # fmt: skip
    except (OSError, wire.Malformed) as error:
        raise Blocked(
            f"The broker of this control plane does not answer ({error}).",
            "See `systemctl status nodeagent-broker-root.socket nodeagent-broker` and `nodeagent"
            " status`; then run the command again.",
        ) from error
    try:
        said = broker_protocol.heard(op, answer)
    except wire.Malformed as error:
        raise _odd(f"an answer in which {error}") from error
    if "error" in said and said.get("status") == broker_protocol.OTHER_VERSION:
        raise OtherVersion(said["error"], broker_protocol.RESTART)
    if "error" in said and said.get("status") == 409:
        raise Refused(said["error"], said.get("remedy", "Run the command again."))
    if "error" in said:
        raise CommandFailed(said["error"], "When the cause is gone, run the command again.")
    return said


def _odd(what: str) -> CommandFailed:
    return CommandFailed(
        f"The broker gave {what}, and none of it was taken: it is damaged, or not ours any more.",
        "Nothing was changed in the cluster. See `journalctl -u nodeagent-broker`.",
    )


def show_nodes(host: Host) -> list[str]:
    """The cluster's nodes, then what the broker knows: each table under its title."""
    need_control_plane(host)
    nodes: list[control_plane.NodeInfo] = []
    by_hand: list[str] = []
    try:
        nodes = control_plane.nodes(host)
        rows: Rows = [
            (i.name, "Ready" if i.ready else "NotReady", i.role, i.version, i.address)
            for i in nodes
        ]
        lines = _table(("NAME", "STATE", "ROLE", "VERSION", "ADDRESS"), rows)
        with contextlib.suppress(CommandFailed):  # a hint, no more
            by_hand = control_plane.tokens_by_hand(host)
    except NodeAgentError as error:  # what the broker remembers can be shown all the same
        lines = [f"The cluster's nodes cannot be listed: {error.reason}"]
    known: broker_protocol.Overview = ask(host, op="nodes")
    for title, head, rows in _tables(known):
        lines += ["", title, *_table(head, rows)] if rows else []
    return [
        *lines,
        "",
        *_rewritten(nodes, known),
        *(BY_HAND.format(token=token) for token in by_hand),
        _enrolment(known),
        *_clock(known.get("ahead", 0)),
    ]


def _rewritten(
    nodes: Sequence[control_plane.NodeInfo], known: broker_protocol.Overview
) -> list[str]:
    """What to do about a node that is away while a board that wished for its name is here: the
    board's card was rewritten, most likely, and the broker did not know it by its serial number."""
    ready = {node.name: node.ready for node in nodes}
    return [
        f"{name} is away, and a board that wished for its name is here as {came['name']}. Where it"
        " is the same board with a rewritten card,"
        f" `sudo nodeagent forget {name}` deletes the old node."
        for name, is_ready in ready.items()
        for came in known["admissions"]
        if not is_ready and ready.get(second_name(name, came["node_id"]))
        and came["name"] == second_name(name, came["node_id"])
    ]  # fmt: skip


def _tables(known: broker_protocol.Overview) -> list[tuple[str, tuple[str, ...], Rows]]:
    admissions: Rows = [
        (e["name"], e["node_id"], _when(e["time"]), e["source"] or "-", e["token_id"] or "-")
        for e in known["admissions"]
    ]
    claims: Rows = [
        (e["name"], e["node_id"], e["source"], _when(e["until"])) for e in known.get("claims", [])
    ]
    left: Rows = [
        (e["name"], e["node_id"], f"{e['days']} days" if e["days"] else "until it is forgotten")
        for e in known.get("left", [])
    ]
    waiting: Rows = [
        (code(e["node_id"]), e["name"], e["source"], _when(e["first"]), _when(e["last"]))
        for e in known["waiting"]
    ]
    revoked: Rows = [(e["name"] or "-", e["node_id"], _when(e["time"])) for e in known["revoked"]]
    return [
        ("Let in", ("NAME", "NODE ID", "WHEN", "FROM", "TOKEN"), admissions),
        ("Joining now", ("NAME", "NODE ID", "FROM", "UNTIL"), claims),
        (
            "Waiting: sudo nodeagent approve CODE",
            ("CODE", "WISHES TO BE", "FROM", "SINCE", "LAST ASKED"),
            waiting,
        ),
        ("Approved, not here yet", ("CODE",), [(code(n),) for n in known["approved"]]),
        ("Revoked", ("NAME", "NODE ID", "WHEN"), revoked),
        ("Left, with a certificate for the name", ("NAME", "NODE ID", "AT MOST"), left),
    ]


def _enrolment(known: broker_protocol.Overview) -> str:
    who = "boards that may lead" if known["by_approval"] else "all of the fleet's boards"
    rest = "; a person approves every other one" if known["by_approval"] else ""
    if not known["open"]:
        return "Enrolment is sealed: a person approves each new board."
    end = f" until {_when(known['until'])}" if known["until"] else ""
    return f"Enrolment is open for {who}{end}{rest}."


def _clock(ahead: int) -> list[str]:
    if ahead < AHEAD:
        return []
    days, hours = divmod(ahead // 3600, 24)
    said = (
        f"This node's clock was ahead once, by {days} days and {hours} hours. What ended then stays"
        " ended: open enrolment again with `sudo nodeagent seal --open`, approve who still waits."
    )
    return [said]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    whole = [head, *rows]
    widths = [max(len(row[i]) for row in whole) for i in range(len(head))]
    padded = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in whole)
    return ["  ".join(row).rstrip() for row in padded]


def _when(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def approve(host: Host, typed: str) -> str:
    """Let in the node with this code. Raises what ``read_code`` and ``ask`` raise."""
    need_control_plane(host)
    node_id = read_code(typed)
    said: broker_protocol.Approved = ask(host, op="approve", node=node_id)
    _let_back(host, said["let_back"])
    # Told, since the broker chose them: whoever typed one code may see that others came back too.
    back = ", ".join(said["let_back"])
    more = f" No longer barred in the cluster: {back}." if back else ""
    if said["state"] == "admitted":
        return f"This node is in already, as {said['name']}.{more}"
    if said["state"] == "waiting":
        return f"Approved: {said['name']} at {said['source']} joins by itself within seconds.{more}"
    return (
        f"Approved {code(node_id)} for 24 hours. No node of this code has asked lately: compare it"
        f" with what the node shows.{more}"
    )


def revoke(host: Host, who: str) -> list[str]:
    """Throw out a node. Raises Refused, Blocked, CommandFailed."""
    need_control_plane(host)
    shown_code = re.fullmatch(r"(\w{4}[- ]){3}\w{4}", who)
    said: broker_protocol.Revoked = ask(
        host, op="revoke", who=read_code(who) if shown_code else _name(who)
    )
    names = list(said["names"])
    if names:
        revoked.bar(host, names)
        only_node.fit(host, Facts(host).node_name)
    shown = ", ".join(names) or said["node_id"]
    lines = [f"Revoked {shown}: it gets no grant."]
    if names:
        lines = [f"Revoked {shown}: it gets no grant, and its kubelet can change nothing any more."]
        lines.append(
            "Its node was deleted, and its pods go elsewhere. What its certificate still lets it do"
            " is in SECURITY.md; secrets of pods that ran there should be renewed."
        )
    if said["sealed"]:
        lines.append("Enrolment is sealed now, since its card could make itself another key.")
    return lines


def forget(host: Host, name: str) -> str:
    """Free a name. Raises Refused, Blocked, CommandFailed."""
    need_control_plane(host)
    said: broker_protocol.Forgotten = ask(host, op="forget", name=_name(name))
    if {*said["bar"], *said["let_back"]} - {name}:
        raise _odd("other nodes' names")
    _let_back(host, said["let_back"])
    if not said["days"]:
        if not said["forgotten"]:
            raise Refused(f"Nobody holds the name {name}.", "See: sudo nodeagent nodes")
        return f"{name} is free. If the cluster still lists it: kubectl delete node {name}"
    revoked.bar(host, said["bar"])
    only_node.fit(host, Facts(host).node_name)
    if not said["forgotten"]:
        raise Refused(
            f"Whoever had the name {name} may still hold a certificate for it, for {said['days']}"
            " days at most in which this node is on, and Kubernetes cannot take one back.",
            "Give the new board another name, under `node_name` in nodeagent.yaml.",
        )
    return (
        f"{name} is forgotten: its node was deleted, its key is a stranger's, and its certificate"
        " may change nothing any more. Nobody else gets the name while that may live,"
        f" {said['days']} days; then run this again."
    )


def _let_back(host: Host, names: Sequence[str]) -> None:
    if names:
        revoked.let_back(host, names)


def _name(text: str) -> str:
    try:
        return str(wire.node_name(text))
    except wire.Malformed as error:
        raise Usage(f"{text!r} is not a valid node name.", "See: sudo nodeagent nodes") from error


def seal(host: Host, span: str | None) -> str:
    """End enrolment, or open it for a while. Raises Refused, Blocked, CommandFailed."""
    need_control_plane(host)
    try:
        seconds = checks.seconds(checks.span(span)) if span is not None else 0
    except checks.Wrong as wrong:
        raise Usage(f"The time {wrong}.", "Write a time such as 1h, 30m or 7d.") from wrong
    if span is not None and not 0 < seconds <= LONGEST:
        raise Usage(f"Enrolment cannot be opened for {span}.", "At most 366d.")
    said: broker_protocol.Sealed = ask(host, op="seal", open=seconds)
    until = said["until"]
    if not until:
        return "Enrolment is sealed. New boards: sudo nodeagent approve CODE, or seal --open 1h."
    return f"Enrolment is open until {_when(until)}, then sealed again."
