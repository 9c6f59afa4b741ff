"""What kubelets tell the API server, cut down to what the kubelet's double has to tell as well.

``python3 kubelet_trace.py watch ROOT FILE`` adds a line to FILE whenever something else is told. It
runs on a control plane: of the lab (ROOT is ``/``) and of the cluster tier. ``... left ROOT WORDS``
says what a kubelet has left on its board (WORDS: JSON). The lab copies this file to boards, so it
needs the standard library only.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

State = dict[str, str]
Told = dict[str, list[State]]  # by object
Left = dict[str, list[str]]

AGAIN = 2.0  # seconds after an API server that did not answer
WATCHES = ("/api/v1/nodes", "/api/v1/pods")
NAMESPACES = ("kube-system", "kube-flannel")
CONFIG = "kubernetes.io/config."
PUBLIC = "flannel.alpha.coreos.com/public-ip"
HOSTS_HEAD = "# Kubernetes-managed hosts file (host network)."
NAME = re.compile(r"\b(api|n)[a-z0-9-]*\.f-[a-z2-7]{16}\.internal\b")
ORDINALS = ("boot", "uid", "hash", "mirror")  # told as first, second, ... of its object
# In what the double need not be as the real kubelet, and why.
DIFFERENT = {
    "restarts": "how often a container ends before others answer it depends on the machine's pace,"
    " and the double counts a static pod's from each power-on",
    "containers": "the double has no container runtime",
}


def reduced(thing: Any) -> tuple[str, State] | None:
    """Name and state of a Node, or of a pod of the cluster's own in its node's network, with
    addresses, names and uids as they are; None for all else."""
    meta, status, spec = thing["metadata"], thing.get("status", {}), thing.get("spec", {})
    notes = meta.get("annotations") or {}
    if thing["kind"] == "Node":
        conditions = status.get("conditions") or []
        ready: Any = next((one for one in conditions if one["type"] == "Ready"), {})
        found = [f"{one['type']} {one['address']}" for one in status.get("addresses") or []]
        return f"node {meta['name']}", {
            "ready": f"{ready.get('status')} {ready.get('reason')}",
            "addresses": " ".join(found),
            "boot": status.get("nodeInfo", {}).get("bootID", ""),
            "public-ip": notes.get(PUBLIC, ""),
        }
    node = spec.get("nodeName")
    if not (node and spec.get("hostNetwork") and meta["namespace"] in NAMESPACES):
        return None
    owner = next(iter(meta.get("ownerReferences") or []), {"kind": "", "name": ""})
    name = owner["name"] if owner["kind"] == "DaemonSet" else meta["name"].removesuffix(f"-{node}")
    # Not the condition Ready: that one the node controller changes as well.
    containers = status.get("containerStatuses") or []
    return f"{name} on {node}", {
        "uid": meta["uid"],
        **{kind: notes.get(CONFIG + kind, "") for kind in ("hash", "mirror", "source")},
        "podIP": status.get("podIP", ""),
        "podIPs": " ".join(one["ip"] for one in status.get("podIPs") or []),
        "phase": status.get("phase", ""),
        "ready": str(bool(containers) and all(one["ready"] for one in containers)),
        "restarts": str(sum(one["restartCount"] for one in containers)),
    }


def worded(text: str, words: Mapping[str, str]) -> str:
    """``text`` with words in place of names and addresses, each between spaces."""
    return " ".join(words.get(one, one) for one in text.split())


def told(lines: Iterable[str], words: Mapping[str, str]) -> Told:
    """What each object was told to be, one state after the other, from lines of ``watch``."""
    found: Told = {}
    seen: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        raw, state = json.loads(line)
        if state["ready"].startswith("Unknown"):
            continue  # the node controller's word
        name = worded(raw, words)
        for kind in state.keys() & set(ORDINALS):
            known = seen.setdefault((name, kind), [""])  # none is 0
            if state[kind] not in known:
                known.append(state[kind])
            state[kind] = str(known.index(state[kind]))
        state = {kind: worded(value, words) for kind, value in state.items()}
        states = found.setdefault(name, [])
        if states[-1:] != [state]:
            states.append(state)
    return found


def differences(real: Told, double: Told) -> list[str]:
    """A sentence for each state of the double's that the real kubelet's has not, for each last
    state that is another one, and for each object that only one of both has. How long a container
    runs before it is ready depends on the machine's pace, and so does whether anybody saw it."""
    found = [f"only one of both tells of {name}" for name in sorted(real.keys() ^ double.keys())]
    for name in sorted(real.keys() & double.keys()):
        wanted, shown = ([_compared(state) for state in of[name]] for of in (real, double))
        seen = [*wanted, *({**state, "ready": "False"} for state in wanted if "podIP" in state)]
        strange = [state for state in shown if state not in seen]
        found += [f"{name}: the real kubelet never told {state}" for state in strange]
        if shown[-1] != wanted[-1]:
            found.append(f"{name}: in the end {shown[-1]}, of the real kubelet {wanted[-1]}")
    return found


def left_otherwise(real: Left, double: Left) -> list[str]:
    """A sentence for each kind of thing that the double has left otherwise on a board."""
    return [
        f"{kind}: left is {double[kind]}, by the real kubelet {real[kind]}"
        for kind in real
        if kind not in DIFFERENT and _asked_for(double[kind]) != _asked_for(real[kind])
    ]


def _asked_for(lines: Iterable[str]) -> set[str]:
    """Without a control plane's own name, which only its etcd is asked by: a pod that goes on keeps
    its copy, and whether a scheduler outlives its API server's start depends on the pace."""
    return {re.sub(r" \S+ n$", "", line) for line in lines}


def _compared(state: State) -> State:
    return {kind: value for kind, value in state.items() if kind not in DIFFERENT}


def left(root: Path, words: Mapping[str, str]) -> Left:
    """On a board, whose files lie below ``root``: the kubelet's --node-ip; the names of the cluster
    in the hosts files of pods in the node's network; name, attempt and state of each container."""
    hosts, addresses = [], []
    for path in root.glob("var/lib/kubelet/pods/*/etc-hosts"):
        head, *lines = path.read_text().splitlines()
        if head == HOSTS_HEAD:
            named = [NAME.sub(r"\1", line) for line in lines if NAME.search(line)]
            hosts.append(" ".join([head, *named]))
    for path in root.glob("proc/[0-9]*/cmdline"):
        try:
            program, *flags = path.read_text(errors="replace").split("\0")
        except OSError:
            continue  # it has ended
        if program.endswith("/kubelet"):
            addresses += [one[10:] for one in flags if one.startswith("--node-ip=")]
    containers: list[str] = []
    if root == Path("/"):
        said = subprocess.run(["crictl", "ps", "-a", "-o", "json"], capture_output=True, check=True)
        for one in json.loads(said.stdout)["containers"]:
            meta = one["metadata"]
            containers.append(f"{meta['name']} {meta.get('attempt', 0)} {one['state']}")
    found = {"node-ip": addresses, "hosts": hosts, "containers": containers}
    return {kind: sorted({worded(one, words) for one in of}) for kind, of in found.items()}


def watch(root: Path, file: Path) -> None:
    """For ever: nodes and pods of the API server of this board, whose files lie below ``root``."""
    with file.open("a") as out:
        for path in WATCHES[1:]:
            threading.Thread(target=_follow, args=(root, path, out), daemon=True).start()
        _follow(root, WATCHES[0], out)


def _follow(root: Path, path: str, out: Any) -> None:
    """A watch costs a slow board less than lists do, and nothing that is told is missed."""
    last: dict[str, State] = {}
    while True:
        try:
            connection = _connection(root)
            connection.request("GET", f"{path}?watch=1&timeoutSeconds=300")
            for event in connection.getresponse():
                parsed = json.loads(event)
                if parsed["type"] not in ("ADDED", "MODIFIED"):
                    continue
                known = reduced(parsed["object"])
                if known and last.get(known[0]) != known[1]:
                    last[known[0]] = known[1]
                    out.write(f"{json.dumps(known)}\n")
                    out.flush()
        except (OSError, ValueError, LookupError, http.client.HTTPException):
            pass  # it starts, or has ended
        time.sleep(AGAIN)


def _connection(root: Path) -> http.client.HTTPSConnection:
    """As the administrator, by loopback: the certificate does not name that address, so it is not
    looked at."""
    context = ssl._create_unverified_context()
    conf = (root / "etc/kubernetes/admin.conf").read_text()
    found = re.findall(r"client-(?:certificate|key)-data: (\S+)", conf)
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(b"".join(map(base64.b64decode, found)))
        pem.flush()
        context.load_cert_chain(pem.name)
    return http.client.HTTPSConnection("127.0.0.1", 6443, timeout=330, context=context)


if __name__ == "__main__":
    verb, below, more = sys.argv[1:]
    if verb == "watch":
        watch(Path(below), Path(more))
    sys.stdout.write(json.dumps(left(Path(below), json.loads(more))))
