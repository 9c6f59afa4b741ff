"""The real programs of Kubernetes, each below the root folder of a virtual board (bwrap(1)).

They are those that the lab's mirror has built, so both tiers run the same bytes.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.support import namespaces

CACHE = Path(os.environ.get("NODEAGENT_LAB_CACHE", "~/.cache/nodeagent-lab")).expanduser()
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MIRROR = CACHE / "mirror" / ARCH
KUBERNETES, ETCD = MIRROR / "bin-kubernetes", MIRROR / "bin-etcd"
PROGRAMS = {
    name: folder / name
    for folder, names in (
        (KUBERNETES, ("kubeadm", "kubectl", "kubelet", "kube-apiserver", "kube-controller-manager",
                      "kube-scheduler")),
        (ETCD, ("etcd", "etcdctl", "etcdutl")),
    )
    for name in names
}  # fmt: skip
KERNEL = ("--dev", "/dev", "--proc", "/proc")
COMMANDS = ("kubeadm", "kubectl", "etcdctl", "etcdutl")
# How the doubles of one board talk: what systemd is to do with the kubelet, each start with a new
# word ("none": the containers end too); names of static pods that run, and of those to stop.
WANTED, RUNS, STOP = (f"/run/kubelet-double/{name}" for name in ("wanted", "runs", "stop"))
PID, CMDLINE = 1002, "/proc/1002/cmdline"  # of the kubelet, as the kernel shows it
NONE, LOGS = "none", "/var/log/pods"
CLOCK = "/clock-double"  # by how many seconds the agent's clock is off, where no time server is
# What kubeadm asks of systemd (cmd/kubeadm/app/util/initsystem).
SYSTEMCTL = f"""#!/bin/sh
case "$1" in
start | restart) echo "on $$ $(date +%s%N)" > {WANTED} ;;
stop) echo off > {WANTED} ;;
status) echo "Loaded: loaded" && echo "Active: active" ;;
is-active) exit 3 ;;
esac
"""


def missing() -> str:
    """What the tier wants and is not there, in one sentence; empty where all is."""
    lost = [str(path) for path in PROGRAMS.values() if not path.exists()]
    if lost:
        return (
            f"The cluster tier needs the programs that the lab builds, and {lost[0]} is not there:"
            " run `make lab` once, or name the folder of its cache in NODEAGENT_LAB_CACHE."
        )
    if os.geteuid() != 0:
        return "The cluster tier makes network namespaces, which needs root."
    absent = [name for name in ("bwrap", "ip") if shutil.which(name) is None]
    packages = {"bwrap": "bubblewrap", "ip": "iproute2"}
    return f"Install the Debian package {packages[absent[0]]}." if absent else ""


def whole(root: Path, *argv: str) -> list[str]:
    """The command line of a program that sees the board's files as its own, and the machine's tools
    below /usr. Network and time are the caller's."""
    tools = root / "run/kubelet-double/bin"
    if not (tools / "systemctl").exists():
        tools.mkdir(parents=True, exist_ok=True)
        (tools / "systemctl").write_text(SYSTEMCTL)
        (tools / "systemctl").chmod(0o755)
    shown = [word for path in ("/usr", "/lib", "/lib64", "/bin", "/sbin") if Path(path).exists()
             for word in ("--ro-bind", path, path)]  # fmt: skip
    for folder, at in ((KUBERNETES, "/run/kubernetes"), (ETCD, "/run/etcd")):
        shown += ["--ro-bind", str(folder), at]
    path = "/run/kubelet-double/bin:/run/kubernetes:/run/etcd:/usr/sbin:/usr/bin"
    return namespaces.sandboxed(
        _name(root), "--bind", str(root), "/", *shown, "--tmpfs", "/tmp", *KERNEL,
        "--setenv", "PATH", path, "--setenv", "HOME", "/root", "--", *argv,
    )  # fmt: skip


def container(root: Path, hosts: Path, mounts: Mapping[str, tuple[str, bool]],
              env: Mapping[str, str], *argv: str) -> list[str]:  # fmt: skip
    """The command line of a static pod's program, which sees what its manifest mounts and no more.

    ``mounts``: place in the container -> path on the board, and whether it may be written to.
    ``hosts``: the copy of /etc/hosts that the kubelet has made for it.
    """
    shown = ["--ro-bind", str(PROGRAMS[argv[0]]), f"/{argv[0]}"]
    for at, (path, writable) in sorted(mounts.items()):
        shown += ["--bind" if writable else "--ro-bind", str(root / path.lstrip("/")), at]
    shown += ["--ro-bind", str(hosts), "/etc/hosts"]
    given = [word for item in env.items() for word in ("--setenv", *item)]
    return namespaces.sandboxed(
        _name(root), "--tmpfs", "/", *KERNEL, "--tmpfs", "/tmp", *shown, "--as-pid-1", *given,
        "--", f"/{argv[0]}", *argv[1:],
    )  # fmt: skip


def _name(root: Path) -> str:
    return (root / "proc/sys/kernel/hostname").read_text().strip() or "localhost"
