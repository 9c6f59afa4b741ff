"""Milestones of a node in the system's journal: one record each, with a MESSAGE_ID and fields.

The ids are fixed for good (journald, systemd.journal-fields(7), MESSAGE_ID), so scripts may look
for them, and the message catalogue (``debian/nodeagent.catalog``) explains each to beginners:
``journalctl -x -u nodeagent``. What is no milestone stays an ordinary line of the log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from nodeagent.host.host import Host

LOG = logging.getLogger("nodeagent")

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog(3)


@dataclass(frozen=True)
class Event:
    """``message_id``: 128 random bits in hexadecimal; ``title`` and ``text`` for the catalogue."""

    message_id: str
    title: str
    text: str
    priority: int = INFO


# The phases by their own names, then what happens within them.
EVENTS: dict[str, Event] = {
    "preparing": Event(
        "f3f6230077454745befe914d5185ffbe",
        "The node is being prepared",
        "The agent looks for what this system lacks to be a Kubernetes node, and does it step by"
        " step. Nothing has to be done; `nodeagent status --watch` shows how far it is.",
    ),
    "rebooting": Event(
        "c5bac953fb5f4c1f8f5b6246e4159be2",
        "The node reboots once",
        "A change of the boot files counts only from the next boot on. The agent reboots once"
        " for all such changes and goes on by itself.",
        NOTICE,
    ),
    "discovering": Event(
        "fc55f7618d3e4b6abcf35839c89ed02c",
        "The node looks for its fleet",
        "It listens for the other nodes with the same fleet file on the local network.",
    ),
    "electing": Event(
        "83a2c5ea61ba4796bc8b76e5c4530ea1",
        "The fleet decides who leads",
        "This node would lead the cluster, and waits to see whether another one objects.",
    ),
    "initialising": Event(
        "c88a04b12d3243e6aef650001743c3e6",
        "The node makes the control plane",
        "This node was chosen to lead. It runs kubeadm init and installs the pod network. On a"
        " slow card this takes ten minutes.",
        NOTICE,
    ),
    "joining": Event(
        "128d9140f96a4343b39444583b79b605",
        "The node joins the cluster",
        "It asks the control plane for a signed grant and runs kubeadm join with it.",
        NOTICE,
    ),
    "ready": Event(
        "10ae9d05eeaa49f89b89d1a63acdac73",
        "The node is part of the cluster",
        "Kubernetes calls this node Ready. From now on the agent only looks after it.",
        NOTICE,
    ),
    "failed": Event(
        "d46fabb1e4514ff980568c613ff6dc79",
        "The node needs help",
        "The agent cannot go on by waiting alone. The record before this one says why and what to"
        " do, `nodeagent status` too, and `nodeagent explain` more of the code. It goes on by"
        " itself once the cause is gone.",
        ERROR,
    ),
    "trouble": Event(
        "6dc11c066cf44770a0a5fcbfb649be55",
        "Something holds the node up",
        "NODEAGENT_CODE names the kind of trouble, which `nodeagent explain` explains."
        " NODEAGENT_REMEDY says what to do. The agent tries again by itself.",
        WARNING,
    ),
    "over": Event(
        "1ddca620926e4f5fa304075823754f8d",
        "The trouble is over",
        "What held the node up is gone, and it goes on.",
    ),
    "step": Event(
        "895a5e90d06e4fbca7e4189256d671f0",
        "A step of the preparation is done",
        "NODEAGENT_STEP names it, NODEAGENT_SECONDS says how long it took.",
    ),
    "claim": Event(
        "16aa173cc9d04cd7aa757e81c8d53873",
        "The node offers to lead",
        "It heard nobody better, and announces that it will make the control plane unless another"
        " node objects.",
    ),
    "initialised": Event(
        "a87bd5eb2d8740ea9e5e5550ca791662",
        "The control plane is made",
        "kubeadm init has finished on this node.",
        NOTICE,
    ),
    "joined": Event(
        "8ba47eff968a4bac9be5b4443840696c",
        "The node was let in",
        "kubeadm join has finished on this node.",
        NOTICE,
    ),
    "release": Event(
        "a370ed4777854722b68b87875a540a1c",
        "The node gets another release of Kubernetes",
        "The cluster that lets it in runs another one than was installed on this node.",
        NOTICE,
    ),
    "moved": Event(
        "656bcd0036af8051c6aaeb69505a4f87",
        "The node has another address",
        "Its router gave it another one, or it came to another network. What the cluster's files"
        " say of its address was changed on this node; workers find a control plane by themselves.",
        NOTICE,
    ),
    "found": Event(
        "67a723752050b16e34855c847cec5455",
        "The control plane was found at another address",
        "It proved that it belongs to this fleet and has this node's own cluster, and the node"
        " follows it.",
        NOTICE,
    ),
    "off": Event(
        "3010dd58ee08466c94db4767cce6e48e",
        "The board turns itself off",
        "Somebody switches the whole cluster off with `nodeagent fleet off`. It comes back when all"
        " boards get power again.",
        NOTICE,
    ),
    "peer": Event(
        "15c0c41cad6e40e8830258bebcb23309",
        "Another node of the fleet went on",
        "NODEAGENT_PEER names the node, NODEAGENT_PHASE where it stands now.",
    ),
    "hardware": Event(
        "bb859f867ce149189cf674405a0635c5",
        "The board or its disk is not well",
        "`sudo nodeagent doctor` shows it in full, with what to do.",
        WARNING,
    ),
}


def record(host: Host, name: str, message: str, /, **fields: object) -> None:
    """Write one milestone. ``fields`` become NODEAGENT_<NAME>; those without a value are left out.

    Where the journal does not read this process (systemd.exec(5), JOURNAL_STREAM), it is a line
    of the log.
    """
    event = EVENTS[name]
    if not host.environ.get("JOURNAL_STREAM"):
        LOG.log(logging.WARNING if event.priority <= WARNING else logging.INFO, "%s", message)
        return
    import systemd.journal as journal  # here, since the keeper seldom has something to say

    journal.send(
        message,
        MESSAGE_ID=event.message_id,
        PRIORITY=str(event.priority),
        SYSLOG_IDENTIFIER="nodeagent",
        NODEAGENT_EVENT=name,
        **{f"NODEAGENT_{key.upper()}": str(value) for key, value in fields.items() if value != ""},
    )


def catalogue() -> str:
    """The message catalogue (systemd.journal-fields(7); format: journalctl(1), --catalog, and
    systemd's documentation, "Journal Message Catalogs")."""
    import textwrap

    parts = ["# Made of nodeagent/events.py; a test compares the two.\n"]
    for event in EVENTS.values():
        text = textwrap.fill(event.text, 78, break_on_hyphens=False)
        parts.append(
            f"-- {event.message_id}\nSubject: {event.title}\nDefined-By: nodeagent\n"
            f"Documentation: man:nodeagent(1)\n\n{text}\n"
        )
    return "\n".join(parts)
