"""What systemd says of the sandboxes of the two processes that strangers reach."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.hostile.section import Section

UNITS = Path(__file__).parents[2] / "systemd"
BOUND = 2.0  # systemd-analyze(1): 0 is locked in, 10 is open
SERVE, BROKER = "nodeagent-serve.service", "nodeagent-broker.service"
# What stays open, and why; anything else that is open is a fault.
OPEN = {
    "RootDirectory=/RootImage=": {
        SERVE: "Python and its libraries are the system's own; all of it is read-only",
        BROKER: "Python and its libraries are the system's own; all of it is read-only",
    },
    "PrivateNetwork=": {SERVE: "it is the network process", BROKER: "it asks the API server"},
    "RestrictAddressFamilies=~AF_(INET|INET6)": {
        SERVE: "it is the network process", BROKER: "it asks the API server",
    },
    "RestrictAddressFamilies=~AF_UNIX": {
        SERVE: "it asks the broker", BROKER: "it is asked over a Unix socket",
    },
    "RestrictAddressFamilies=~AF_NETLINK": {
        SERVE: "getifaddrs(3): which addresses this node has",
    },
    "IPAddressDeny=": {
        SERVE: "nodes ask from any address of the LAN",
        BROKER: "the API server is at this node's own address, which changes",
    },
    "PrivateUsers=": {
        BROKER: "in a user namespace SO_PEERCRED would not tell who is at the socket",
    },
    "DeviceAllow=": {
        SERVE: "ProtectClock= itself lets the clock be read",
        BROKER: "ProtectClock= itself lets the clock be read",
    },
}  # fmt: skip


def run(seed: int) -> Section:
    """Score and open points of each unit."""
    rows, faults, scores = [], [], []
    for unit in (SERVE, BROKER):
        score, found = assess(unit)
        scores.append(f"{unit} {score}")
        if score > BOUND:
            faults.append(f"{unit} scores {score}, more than {BOUND}")
        for name in found:
            why = OPEN.get(name, {}).get(unit, "")
            rows.append((unit, f"`{name}`", why))
            if not why:
                faults.append(f"{unit}: {name} is open without a reason")
    return Section(
        "Sandboxes",
        f"`systemd-analyze security --offline=true` ({_version()}): {', '.join(scores)}; at most "
        f"{BOUND} is allowed (0 is locked in, 10 is open). What is open, and why:",
        ("unit", "open", "why"),
        tuple(rows),
        tuple(faults),
    )


def assess(unit: str) -> tuple[float, list[str]]:
    """The score, and the names of what is open. Raises CalledProcessError."""
    # Without a threshold the exit status says nothing of the score.
    said = _analyze("--no-pager", str(UNITS / unit))
    score = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert score is not None, said
    table = json.loads(_analyze("--json=short", str(UNITS / unit)))
    return float(score[1]), [row["name"] for row in table if row["set"] is False]


def _analyze(*words: str) -> str:
    argv = ["systemd-analyze", "security", "--offline=true", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _version() -> str:
    argv = ["systemd-analyze", "--version"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return " ".join(said.split()[:2])
