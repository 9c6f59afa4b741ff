"""The .debs of the two upstream repositories, with the same names, paths and relations.

Sources: cmd/krel/templates/latest of kubernetes/release (since 1.32 kubeadm depends on nothing
and kubelet only recommends iptables, so the agent must name what it needs); Docker's
containerd.io as installed on Debian (CRI disabled, runc inside, conflicts with Debian's
packages). The files are written anew here.
"""

from __future__ import annotations

from pathlib import Path

from nodeagent.cluster.versions import DEFAULT as V
from nodeagent.cluster.versions import Tested

from . import cbuild
from .deb import Package, pack
from .gobuild import build
from .recipes import CNI_PLUGINS, COMPONENTS, own, part, releases
from .store import Store, key_of, recipe

KUBELET_UNIT = """\
[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
"""

KUBEADM_DROP_IN = """\
# kubeadm writes the files named here; /etc/default/kubelet is the administrator's last resort.
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/\
bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS \
$KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""

CONTAINERD_UNIT = """\
[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service

[Service]
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""

CONTAINERD_CONFIG = """\
# As Docker ships it: a container runtime for Docker only, the Kubernetes interface is off.
disabled_plugins = ["cri"]
"""

# What deb-systemd-helper and deb-systemd-invoke do for packages of Debian, in plain systemctl:
# a preset decides about enabling, and nothing is started where systemd does not run.
ENABLE = """\
if [ "$1" = configure ] && [ -z "$2" ] && command -v systemctl >/dev/null; then
    systemctl preset {unit} || true
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
"""
START = """\
if [ -d /run/systemd/system ]; then
    deb-systemd-invoke restart {unit} >/dev/null || true
fi
"""
STOP = """\
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop {unit} >/dev/null || true
fi
"""


def _programs(folder: Path, into: str, *names: str) -> dict[str, Path]:
    chosen = names or sorted(one.name for one in folder.iterdir() if one.name != ".key")
    return {f"{into}/{name}": folder / name for name in chosen}


def kubernetes_packages(built: dict[str, Path], release: Tested) -> list[Package]:
    kube, version = built[part("kubernetes", release)], f"{release.kubernetes}-1.1"
    return [
        Package(
            "kubeadm", version, "Command-line utility for administering a Kubernetes cluster",
            files=_programs(kube, "/usr/bin", "kubeadm"),
            texts={"/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": KUBEADM_DROP_IN},
        ),
        Package(
            "kubelet", version, "Node agent for Kubernetes clusters",
            {"Depends": "kubernetes-cni (>= 1.2.0), mount, util-linux",
             "Recommends": "iptables (>= 1.8.4)"},
            _programs(kube, "/usr/bin", "kubelet"),
            {"/usr/lib/systemd/system/kubelet.service": KUBELET_UNIT,
             "/etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n",
             "/var/lib/kubelet/.kubelet-keep": "",
             "/etc/kubernetes/manifests/.kubelet-keep": ""},
            {"postinst": ENABLE.format(unit="kubelet.service"),
             "prerm": STOP.format(unit="kubelet.service")},
        ),
        Package(
            "kubectl", version, "Command-line utility for interacting with a Kubernetes cluster",
            files=_programs(kube, "/usr/bin", "kubectl"),
        ),
        Package(
            "kubernetes-cni", f"{CNI_PLUGINS}-1.1",
            "Binaries required to provision kubernetes container networking",
            files=_programs(built["cni-plugins"], "/opt/cni/bin"),
        ),
        Package(
            "cri-tools", f"{release.cri_tools}-1.1",
            "Command-line utility for interacting with a container runtime",
            files=_programs(built[part("cri-tools", release)], "/usr/bin", "crictl"),
        ),
    ]  # fmt: skip


def docker_packages(built: dict[str, Path]) -> list[Package]:
    return [
        Package(
            "containerd.io", f"{V.containerd}-1~debian.13~trixie",
            "An open and reliable container runtime",
            {"Provides": "containerd, runc", "Conflicts": "containerd, runc",
             "Replaces": "containerd, runc", "Depends": "libc6 (>= 2.34), libseccomp2 (>= 2.5.0)"},
            {**_programs(built["containerd"], "/usr/bin"),
             **_programs(built["containerd-shim"], "/usr/bin"),
             **_programs(built["runc"], "/usr/bin")},
            {"/usr/lib/systemd/system/containerd.service": CONTAINERD_UNIT,
             "/etc/containerd/config.toml": CONTAINERD_CONFIG},
            {"postinst": ENABLE.format(unit="containerd.service")
             + START.format(unit="containerd.service"),
             "prerm": STOP.format(unit="containerd.service")},
        )
    ]  # fmt: skip


def programs(store: Store) -> dict[str, Path]:
    """Everything compiled, by component."""
    wanted = [one for release in releases() for one in own(release)] + [*COMPONENTS]
    built = {one.name: build(store, one) for one in wanted}
    pauses = {part("pause", release): cbuild.pause(store, release) for release in releases()}
    return {**built, **pauses, "runc": cbuild.runc(store)}


def debs(store: Store, built: dict[str, Path]) -> Path:
    """The part ``debs``: kubernetes/MINOR/*.deb and docker/*.deb."""

    def make(target: Path) -> None:
        folders = {"docker": docker_packages(built)}
        for release in releases():
            there = folders.setdefault(f"kubernetes/{release.minor}", [])
            there += kubernetes_packages(built, release)
        for folder, wanted in folders.items():
            (target / folder).mkdir(parents=True)
            for package in wanted:
                pack(store, package, target / folder)

    keys = {name: (one / ".key").read_text() for name, one in built.items()}
    return store.part("debs", key_of(keys, recipe("deb", "packages")), make)
