"""What ``--help`` teaches beside what a command is: when to use it, with examples.

One table for ``--help``, the man page and docs/reference/commands.md. A test holds it to the
commands and their options. It is loaded only where help is shown.
"""

from __future__ import annotations

from typing import NamedTuple


class Lesson(NamedTuple):
    """``when``: sentences on when to use it; ``examples``: a command line and what it does."""

    when: str
    examples: tuple[tuple[str, str], ...]


SEED = "--fleet home.fleet --deb dist/nodeagent_0.2.0_all.deb"

LESSONS: dict[str, Lesson] = {
    "status": Lesson(
        "First of all, whenever you wonder what a node is doing. It needs no root.",
        (
            ("nodeagent status", "what the node is doing, and what it waits for"),
            ("nodeagent status --watch", "the same, live"),
            ("nodeagent status --json", "for scripts; the schema is in the package"),
        ),
    ),
    "explain": Lesson(
        "When a status names a code such as E105 and its two sentences are not enough.",
        (
            ("nodeagent explain E105", "what E105 means and what to do"),
            ("nodeagent explain", "all codes"),
            ("sudo nodeagent explain --recipe", "a kubeadm tutorial, step by step, on this node"),
        ),
    ),
    "doctor": Lesson(
        "When a node is stuck and the status alone does not help, and before you ask somebody. It"
        " looks at board, disk, system, network, packages, fleet and cluster.",
        (
            ("sudo nodeagent doctor", "look at everything"),
            ("sudo nodeagent doctor --online -v", "ask the mirrors too, and say why each matters"),
        ),
    ),
    "role": Lesson(
        "On the board that should lead, or that should never lead. Where you know it beforehand,"
        " write `role:` into nodeagent.yaml instead. Once it is decided the board leaves its"
        " cluster for that: it says what happens, asks, and goes on by itself after a power cut. A"
        " second leader is refused, and so is the loss of a cluster without --end-cluster.",
        (
            ("sudo nodeagent role", "which role this node has"),
            ("sudo nodeagent role --control-plane", "this board shall lead"),
            ("sudo nodeagent role --worker --end-cluster", "it leads, and should no longer"),
        ),
    ),
    "plan": Lesson(
        "To see what the agent has left to do on this system, without doing it.",
        (("sudo nodeagent plan", "each step with its actions; nothing where all is done"),),
    ),
    "prepare": Lesson(
        "When you build an image and want its files prepared before its first boot.",
        (("sudo nodeagent prepare --root /mnt/image", "what can be done to files alone"),),
    ),
    "events": Lesson(
        "To see how a node got where it is, across reboots too.",
        (
            ("sudo nodeagent events", "the milestones, one a line"),
            ("sudo nodeagent events --json", "for scripts, one object a line"),
        ),
    ),
    "report": Lesson(
        "When you want somebody else to help. Keys, tokens and passwords are taken out; names and"
        " addresses of your network stay in it.",
        (("sudo nodeagent report --out /tmp", "one file, nodeagent-report-NAME-TIME.tar.gz"),),
    ),
    "config": Lesson(
        "When a setting does not do what you expect: it shows which file and line won.",
        (("nodeagent config", "each setting, its value and its origin"),),
    ),
    "nodes": Lesson(
        "On the control plane, to see who is in the cluster, who waits for your approval, and"
        " whether new boards may still join by themselves.",
        (("sudo nodeagent nodes", "nodes, and all keys that hold a right, wait or are revoked"),),
    ),
    "kubeconfig": Lesson(
        "Once, on the control plane, to use kubectl on your own computer. The file makes its"
        " holder administrator for a year.",
        (("sudo nodeagent kubeconfig --out home.yaml", "then copy it, and use it as KUBECONFIG"),),
    ),
    "verify": Lesson(
        "On the control plane, when all nodes are Ready, or when pods do not reach each other.",
        (("sudo nodeagent verify", "three web pods, tried over each way, then removed"),),
    ),
    "approve": Lesson(
        "When a board waits for your approval: the fleet was made with --approve, or its enrolment"
        " has ended. Type what the board itself shows, all 16 characters.",
        (("sudo nodeagent approve ABCD-EFGH-IJ23-4567", "it then joins by itself"),),
    ),
    "revoke": Lesson(
        "When a board or its card was stolen or sold. To take a healthy board out of the cluster,"
        " use `nodeagent reset` on it.",
        (("sudo nodeagent revoke pi-4f2a11", "throw it out; new boards then need your approval"),),
    ),
    "forget": Lesson(
        "When a board is gone for good: its key becomes a stranger's, and its kubelet may change"
        " nothing any more. Its name is free, by the same command again, once its certificate has"
        " surely ended.",
        (("sudo nodeagent forget pi-4f2a11", "no right is left to it"),),
    ),
    "seal": Lesson(
        "When all boards are in and no card that turns up later shall join; and to let several"
        " new boards in at once. It happens by itself 24 hours after the cluster was made.",
        (
            ("sudo nodeagent seal", "from now on a person approves each new board"),
            ("sudo nodeagent seal --open 1h", "for an hour the fleet's boards join by themselves"),
        ),
    ),
    "join-command": Lesson(
        "On the control plane, to add a machine that has kubeadm and no nodeagent.",
        (("sudo nodeagent join-command", "type what it prints there, within 10 minutes"),),
    ),
    "reset": Lesson(
        "To take a board out of the cluster, or to begin again. On the board that leads, the"
        " whole cluster is lost; it says so and asks.",
        (
            ("sudo nodeagent reset", "leave, and undo the preparation"),
            ("sudo nodeagent reset --identity --yes", "forget who it was too, without a question"),
        ),
    ),
    "fleet": Lesson(
        "On your own computer, before you prepare cards; `fleet off` on the control plane.",
        (("nodeagent fleet new home", "a fleet of identical cards, called home"),),
    ),
    "fleet new": Lesson(
        "Once for each cluster. Keep NAME.fleet in a safe place: who has it can make cards.",
        (
            ("nodeagent fleet new home", "identical cards, any board may lead"),
            ("nodeagent fleet new home --split", "workers' cards that can only ask to join"),
            ("nodeagent fleet new home --approve", "and a person approves each worker"),
        ),
    ),
    "fleet off": Lesson(
        "Before you unplug the cupboard, move it, or go on holiday. Each worker notices within a"
        " minute; a board that stays on is named, and then the control plane stays on too.",
        (
            ("sudo nodeagent fleet off", "all boards of this cluster, this one last"),
            ("sudo nodeagent fleet off --yes", "the same in a script"),
        ),
    ),
    "fleet show": Lesson(
        "When you no longer know which fleet a file belongs to.",
        (("nodeagent fleet show home.fleet", "its name, its kind, what it holds"),),
    ),
    "image": Lesson(
        "On your own computer, to prepare images and cards. Needs mtools and bubblewrap, no root.",
        (("nodeagent image seed raspios.img --fleet home.fleet", "make the image the fleet's"),),
    ),
    "image fetch": Lesson(
        "To download a publisher's image over https. It is compared with the publisher's SHA-256,"
        " and a download that was cut goes on where it ended.",
        (
            (
                "nodeagent image fetch https://example.org/raspios.img.xz",
                "into this folder; unpack it with unxz to seed it, or bake it as it is",
            ),
        ),
    ),
    "image seed": Lesson(
        "After `nodeagent fleet new`, for an unpacked image of Raspberry Pi OS (64-bit) or Ubuntu,"
        " or for a flashed card whose boot partition your computer shows. Where it fails,"
        " nothing was changed.",
        (
            (
                f"nodeagent image seed raspios.img {SEED} --expected-nodes 4",
                "an image for all four boards",
            ),
            (
                f"nodeagent image seed /media/you/bootfs {SEED}",
                "a flashed card",
            ),
        ),
    ),
    "image bake": Lesson(
        "When boards should download nothing at first boot, or you publish an image. On Linux, from"
        " an image that was neither seeded nor baked, which is only read. Where it fails, there is"
        " no new image.",
        (
            (
                f"nodeagent image bake fresh.img --out home.img {SEED} --with-images",
                "boards that need no internet at all",
            ),
            (
                "nodeagent image bake fresh.img.xz --out any.img --deb nodeagent_0.2.0_all.deb",
                "an image of no fleet yet; seed it later with --no-install",
            ),
        ),
    ),
    "image manifest": Lesson(
        "After `image seed`, where you flash with Raspberry Pi Imager 2 and want its settings for"
        " user, Wi-Fi and SSH.",
        (
            (
                "nodeagent image manifest raspios.img --out home.rpi-imager-manifest",
                "a list that Imager opens (App Options, Content Repository)",
            ),
        ),
    ),
    "run": Lesson(
        "Not by hand: systemd runs it as nodeagent.service.",
        (("sudo systemctl restart nodeagent", "start the agent anew; it loses nothing"),),
    ),
    "serve": Lesson(
        "Not by hand: systemd runs it as nodeagent-serve.service.",
        (("systemctl status nodeagent-serve", "whether the network process is well"),),
    ),
}
