"""What the real kubelets of two boards tell, recorded while they are carried; tests/cluster plays
the same with the kubelet's double and compares."""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import kubelet_trace

from . import checks
from .cluster import Cluster
from .guest import Guest, wait
from .place import REPOSITORY

FOLDER = REPOSITORY / "tests" / "cluster" / "traces"
SOURCE = Path(kubelet_trace.__file__)
UNIT = "/etc/systemd/system/kubelet-trace.service"
SCRIPT, FILE = "/var/lib/kubelet-trace.py", "/var/lib/kubelet-trace.jsonl"
SERVICE = f"""\
[Service]
ExecStart=/usr/bin/python3 {SCRIPT} watch / {FILE}
Restart=always
Nice=10
[Install]
WantedBy=multi-user.target
"""
QUIET, BOUND = 60, 600.0  # seconds without news, and until then


def start(leader: Guest) -> None:
    """Record on a control plane from now on, after each of its boots too. Raises SshFailed."""
    for path, text in ((SCRIPT, SOURCE.read_text()), (UNIT, SERVICE)):
        leader.ssh(f"sudo tee {path} >/dev/null", stdin=text)
    leader.ssh(f"sudo systemctl enable --now {Path(UNIT).name}")


def finish(
    cluster: Cluster, leader: Guest, names: Mapping[str, Guest], words: Mapping[str, str]
) -> str:
    """Wait until nothing new is told, and write the recording; what it has, in a sentence.

    ``names``: each board by what it is called there; ``words``: name or address -> what stands for
    it. Nothing of the recorder is left on the board. Raises LabError, SshFailed.
    """
    quiet = f"test $(( $(date +%s) - $(stat -c %Y {FILE}) )) -ge {QUIET}"
    try:
        wait("the kubelets always tell something new", lambda: leader.holds(quiet), BOUND, 5)
        lines = leader.ssh(f"sudo cat {FILE}").splitlines()
    finally:
        leader.ssh(
            f"sudo systemctl disable --now {Path(UNIT).name}; sudo rm {UNIT} {SCRIPT} {FILE};"
            " sudo systemctl daemon-reload"
        )
    look = shlex.join(("sudo", "python3", "-", "left", "/", json.dumps(words)))
    left = {name: json.loads(guest.ssh(look, stdin=SOURCE.read_text()))
            for name, guest in names.items()}  # fmt: skip
    told = kubelet_trace.told(lines, words)
    write(
        "carried",
        {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "commit": cluster.commit,
            "clean": cluster.clean,
            "kubernetes": checks.nodes(cluster)[0]["status"]["nodeInfo"]["kubeletVersion"],
            "told": told,
            "left": left,
        },
    )
    return f"{sum(map(len, told.values()))} states of {len(told)} objects, in {FOLDER.name}/"


def write(name: str, data: dict[str, Any]) -> None:
    """``<name>.json``, a state a line."""
    text = json.dumps(data, indent=1)
    states = re.compile(r"\{[^{}\[\]]*\}")
    text = states.sub(lambda found: " ".join(found[0].split()), text)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(f"{text}\n")
