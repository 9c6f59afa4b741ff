"""``nodeagent report``: all that somebody who helps needs to see of a node, without its secrets.

Only what is listed here is taken, each bounded; all of it goes through ``redact``, which knows the
secrets of this very node. What cannot be had is noted instead: a report never fails for one part.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import os
import posixpath
import tarfile
import time
from collections.abc import Callable, Iterator

from nodeagent import __version__, doctor, paths
from nodeagent.cluster import kubeadm_state
from nodeagent.config.show import show_config
from nodeagent.doctor import redact
from nodeagent.errors import NodeAgentError
from nodeagent.host import untrusted
from nodeagent.host.host import Host
from nodeagent.host.privilege import need_root
from nodeagent.status import eventlog
from nodeagent.steps.show import show_plan

MAX_PART = 512 * 1024  # characters; of logs the end, of other things the beginning
MAX_ALL = 8 * 1024 * 1024  # characters before packing
BOUND = 20.0  # seconds for a command
KUBECTL = ("kubectl", "--kubeconfig", paths.ADMIN_CONF, "--request-timeout=15s")

FILES = (
    paths.STATUS,
    paths.ANNOUNCE,
    "/run/nodeagent-serve/heard.json",
    "/var/lib/nodeagent/state.json",
    paths.CMDLINE, paths.MEMINFO, paths.SWAPS, paths.MOUNTS, paths.UPTIME,
    paths.MODEL,
    paths.CGROUP_CONTROLLERS,
    paths.OS_RELEASE, paths.HOSTNAME, paths.HOSTS, paths.FSTAB, paths.RESOLV_CONF,
    "/boot/firmware/cmdline.txt", "/boot/firmware/config.txt", paths.SETTINGS,
    "/boot/cmdline.txt", "/boot/config.txt", paths.OLD_SETTINGS,
    paths.CONTAINERD_CONFIG,
    paths.KUBELET_CONFIG,
    paths.CLOUD_INIT_RESULT, "/run/cloud-init/status.json",
    "/var/log/apt/history.log", "/var/log/dpkg.log",
)  # fmt: skip
JOURNAL = ("journalctl", "--no-pager", "-o", "short-precise", "-n")
COMMANDS: dict[str, tuple[str, ...]] = {
    "journal-nodeagent.log": (*JOURNAL, "3000", "-u", "nodeagent", "-u", "nodeagent-serve", "-u",
                              "nodeagent-broker"),
    "journal-kubelet.log": (*JOURNAL, "3000", "-u", "kubelet"),
    "journal-containerd.log": (*JOURNAL, "500", "-u", "containerd"),
    "journal-kernel.log": (*JOURNAL, "1000", "-k"),
    "units.txt": ("systemctl", "--no-pager", "--full", "status", "nodeagent", "nodeagent-serve",
                  "nodeagent-broker.socket", "nodeagent-broker-root.socket", "nodeagent-broker",
                  "kubelet", "containerd"),
    "units-failed.txt": ("systemctl", "--no-pager", "--failed"),
    "time.txt": ("timedatectl",),
    "addresses.txt": ("ip", "address"),
    "routes.txt": ("ip", "route"),
    "ports.txt": ("ss", "-ltnup"),
    "firewall.txt": ("nft", "list", "ruleset"),
    "space.txt": ("df", "-h"),
    "disks.txt": ("lsblk", "-o", "NAME,SIZE,TYPE,FSTYPE,MOUNTPOINTS,MODEL"),
    "packages.txt": ("dpkg", "-l", "kube*", "containerd*", "cri-tools", "kubernetes-cni",
                     "nodeagent", "cloud-init"),
    "containers.txt": ("crictl", "ps", "-a"),
    "images.txt": ("crictl", "images"),
}  # fmt: skip
ON_CONTROL_PLANE: dict[str, tuple[str, ...]] = {
    "nodes.txt": (*KUBECTL, "get", "nodes", "-o", "wide"),
    "nodes-in-full.txt": (*KUBECTL, "describe", "nodes"),
    "pods.txt": (*KUBECTL, "get", "pods", "-A", "-o", "wide"),
    "requests.txt": (*KUBECTL, "get", "csr"),
    "cluster-events.txt": (*KUBECTL, "get", "events", "-A", "--sort-by=.lastTimestamp"),
}

# Whose content must not leave the node. A name that ends with / stands for what is in the folder.
SECRETS = (
    "/var/lib/nodeagent/trust/", "/var/lib/nodeagent-broker/",
    paths.HANDOVER, f"{paths.ENDPOINT}/", f"{paths.BROKER_INPUT}/",
    "/boot/firmware/nodeagent.fleet", "/boot/nodeagent.fleet",
    "/etc/kubernetes/", "/etc/kubernetes/pki/", "/etc/kubernetes/pki/etcd/",
    f"{kubeadm_state.FOLDER}/", "/var/lib/kubelet/pki/", "/root/.kube/",
    paths.SETTINGS, paths.OLD_SETTINGS,
    "/boot/firmware/user-data", "/boot/firmware/network-config", "/boot/user-data",
    "/boot/network-config", "/boot/wpa_supplicant.conf", "/etc/wpa_supplicant/",
    "/etc/NetworkManager/system-connections/", "/etc/netplan/",
    "/etc/ssh/", "/etc/shadow", "/etc/nodeagent/config.d/",
)  # fmt: skip
NO_SECRETS = (".crt", ".pub", "sshd_config", "ssh_config", "moduli", ".d")
MAX_SECRET = 256 * 1024  # bytes

Say = Callable[[str], None]


def make(host: Host, folder: str, say: Say) -> str:
    """Write the bundle into ``folder``, 0600, and give its path; ``say`` gets a line a part.

    It belongs to the user who called sudo, so that it can be copied away.
    Raises NeedsRoot for an ordinary user, OSError where it cannot be written.
    """
    need_root(host)
    now = host.clock.now()
    node = (host.text(paths.HOSTNAME) or "").strip() or "node"
    safe = "".join(c for c in node if c.isascii() and (c.isalnum() or c == "-"))[:64] or "node"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    name = f"nodeagent-report-{safe}-{stamp}"
    path = posixpath.join(folder, f"{name}.tar.gz")
    host.write(path, pack(name, dict(parts(host, say)), now), 0o600, host.sudo_user)
    return path


def parts(host: Host, say: Say) -> Iterator[tuple[str, str]]:
    """(name, text without secrets) of every part; ends where the bundle would be too large."""
    secrets = known(host)
    left = MAX_ALL
    listed = []
    for name, text in _collected(host):
        clean = redact.text(text, secrets)
        clean = clean[-MAX_PART:] if name.endswith(".log") else clean[:MAX_PART]
        if len(clean) > left:
            clean = "left out: the report would be too large\n"
        left -= len(clean)
        listed.append(f"{len(clean):>9}  {name}")
        say(name)
        yield name, clean
    yield "CONTENTS.txt", "\n".join([
        f"nodeagent {__version__}. Read it before you pass it on: names and addresses of your",
        f"network are in it, keys and passwords are replaced by {redact.GONE}.", "",
        *listed, "",
    ])  # fmt: skip


def known(host: Host) -> set[str]:
    """Every secret of this node, in the parts that ``redact.values`` makes."""
    found: set[str] = set()
    homes = [f"/home/{name}/.kube/" for name in host.names("/home")]
    for place in (*SECRETS, *homes):
        inside = untrusted.names(host, place) if place.endswith("/") else [""]
        for path in (place + name for name in inside):
            if not path.endswith(NO_SECRETS):
                with contextlib.suppress(OSError):
                    found |= redact.values(untrusted.read(host, path, MAX_SECRET) or b"")
    return found


def pack(folder: str, content: dict[str, str], now: float) -> bytes:
    """A tar.gz of text files below ``folder``."""
    raw = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=int(now)) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, text in content.items():
            data = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(now), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return raw.getvalue()


def _collected(host: Host) -> Iterator[tuple[str, str]]:
    """(name, text) of every part, secrets and all."""
    yield "doctor.json", _tried(lambda: _doctor(host))
    yield "config.txt", _tried(lambda: "\n".join(show_config(host)))
    yield "plan.txt", _tried(lambda: "\n".join(show_plan(host)[0]))
    yield "events.jsonl", _tried(lambda: "\n".join(map(json.dumps, eventlog.read(host))))
    for path in FILES:
        text = _tried(functools.partial(_beginning, host, path))
        if text:
            suffix = "" if posixpath.splitext(path)[1] else ".txt"
            yield f"files{path}{suffix}", text
    for name, argv in (
        COMMANDS | (ON_CONTROL_PLANE if host.exists(paths.ADMIN_CONF) else {})
    ).items():
        yield f"commands/{name}", f"$ {' '.join(argv)}\n{_said(host, argv)}"


def _said(host: Host, argv: tuple[str, ...]) -> str:
    result = host.run(*argv, timeout=BOUND)
    status = f"\n(status {result.status})\n" if result.status else ""
    return f"{result.out}{result.err}{status}"


def _beginning(host: Host, path: str) -> str:
    """The last part of a log, the first of other files; nothing where there is none."""
    with untrusted.opened(host, path) as file:
        if path.endswith(".log") and file.seek(0, os.SEEK_END) > MAX_PART:
            file.seek(-MAX_PART, os.SEEK_END)
            file.readline()  # half a line could be half a secret, which nobody recognises
        elif path.endswith(".log"):
            file.seek(0)
        return file.read(MAX_PART).decode("utf-8", "replace").replace("\0", "")


def _doctor(host: Host) -> str:
    name = (host.text(paths.KERNEL_HOSTNAME) or "").strip()
    return doctor.as_json(doctor.examine(host), name, host.clock.now())


def _tried(work: Callable[[], str]) -> str:
    try:
        return work()
    except FileNotFoundError:
        return ""
    except NodeAgentError as error:
        return f"could not be had: {error.reason} ({error.code})\n"
    except Exception as error:  # noqa: BLE001  the other parts matter all the more then
        return f"could not be had: {type(error).__name__}: {error}\n"
