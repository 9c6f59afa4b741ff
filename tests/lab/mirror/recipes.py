"""Which Go modules are built, at which release, and with what said to the linker.

Sources: the build scripts in the modules themselves (``hack/lib/version.sh`` and
``hack/lib/golang.sh`` of Kubernetes, the Makefiles of containerd, CoreDNS, flannel and
cri-tools). Versions come from ``nodeagent.cluster.versions``; only what the agent never names
is pinned here. The default release of that table is always built; KUBERNETES in the environment
names others, each a minor (1.34) or a release (1.36.5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from nodeagent.cluster import packages, versions
from nodeagent.cluster.cni import flannel, kube_router
from nodeagent.cluster.versions import DEFAULT as V
from nodeagent.cluster.versions import Tested

from .store import MirrorError

CNI_PLUGINS = "1.9.1"
# flannel's CNI plugin has its own module (github.com/flannel-io/cni-plugin), which the module
# proxy at hand does not carry. It began as plugins/meta/flannel of the CNI plugins and was
# last part of them in 0.9.1: same config, same subnet.env, CNI up to 0.4.0 (flannel asks 0.3.1).
FLANNEL_CNI_SOURCE = "0.9.1"
RUNC = V.runc
# What the agent's lab uses as a small web server; test/images/agnhost/VERSION of the release.
AGNHOST = "2.66.1"


@dataclass(frozen=True)
class Component:
    """One ``go build`` call in a scratch module that requires ``modules``.

    ``programs`` maps the name of the finished program to its package. ``symbols`` are string
    variables set by the linker; ``{date}`` becomes the module's own time stamp (a module zip
    knows no commit, so none is claimed). ``staging`` is the published version of the modules
    that this one requires as v0.0.0 from its own tree. ``cgo`` are architectures where the
    program needs C; it is linked statically there. ``emptied`` are source files of the module
    that are built as an empty package, because what they import cannot be had.
    """

    name: str
    modules: dict[str, str]
    programs: dict[str, str]
    symbols: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    staging: str = ""
    cgo: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        return next(iter(self.modules.values()))


K8S = "k8s.io/kubernetes"
ETCD = "go.etcd.io/etcd"
CONTAINERD = "github.com/containerd/containerd/v2"
CNI = "github.com/containernetworking/plugins"
FLANNEL = "github.com/flannel-io/flannel"
KUBE_ROUTER = "github.com/cloudnativelabs/kube-router/v2"
KUBE_PROGRAMS = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)
CNI_KINDS = {
    "main": ("bridge", "dummy", "host-device", "ipvlan", "loopback", "macvlan", "ptp", "tap",
             "vlan"),
    "ipam": ("dhcp", "host-local", "static"),
    "meta": ("bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"),
}  # fmt: skip


def releases() -> tuple[Tested, ...]:
    """What the mirror has: the default, then what was asked for. Raises MirrorError."""
    found = [V]
    for wish in os.environ.get("KUBERNETES", "").split():
        known = versions.tested(packages.minor(wish))
        if known is None:
            raise MirrorError(f"KUBERNETES={wish} is not in nodeagent/cluster/versions.py.")
        found.append(replace(known, kubernetes=wish) if wish.count(".") == 2 else known)
    return tuple(dict.fromkeys(found))


def part(kind: str, release: Tested) -> str:
    """The name of a release's own component: without a version where it is the default's."""
    version, default = (str(getattr(one, kind.replace("-", "_"))) for one in (release, V))
    return kind if version == default else f"{kind}-{version}"


def own(release: Tested) -> tuple[Component, ...]:
    """What comes in another version with each release of Kubernetes."""
    etcd = "v" + release.etcd.partition("-")[0]
    major, minor, _ = release.kubernetes.split(".")
    return (
        Component(
            name=part("kubernetes", release),
            modules={K8S: f"v{release.kubernetes}"},
            programs={
                **{name: f"{K8S}/cmd/{name}" for name in KUBE_PROGRAMS},
                "agnhost": f"{K8S}/test/images/agnhost",
            },
            # kubectl reads client-go's copy of the same variables, as upstream's build sets both.
            symbols={
                f"k8s.io/{package}.{name}": value
                for package in ("component-base/version", "client-go/pkg/version")
                for name, value in (
                    ("gitVersion", f"v{release.kubernetes}"),
                    ("gitMajor", major),
                    ("gitMinor", minor),
                    ("gitTreeState", "clean"),
                    ("buildDate", "{date}"),
                )
            },
            tags=("selinux", "notest", "grpcnotrace"),
            staging=f"v0.{release.kubernetes.partition('.')[2]}",
        ),
        Component(
            name=part("etcd", release),
            modules={f"{ETCD}/{n}/v3": etcd for n in ("server", "etcdctl", "etcdutl")},
            programs={
                "etcd": f"{ETCD}/server/v3",
                "etcdctl": f"{ETCD}/etcdctl/v3",
                "etcdutl": f"{ETCD}/etcdutl/v3",
            },
        ),
        Component(
            name=part("coredns", release),
            modules={"github.com/coredns/coredns": release.coredns},
            programs={"coredns": "github.com/coredns/coredns"},
            tags=("grpcnotrace",),
        ),
        Component(
            name=part("cri-tools", release),
            modules={"sigs.k8s.io/cri-tools": f"v{release.cri_tools}"},
            programs={"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
            symbols={"sigs.k8s.io/cri-tools/pkg/version.Version": f"v{release.cri_tools}"},
        ),
    )


# The same for all releases.
COMPONENTS: tuple[Component, ...] = (
    Component(
        name="containerd",
        modules={CONTAINERD: f"v{V.containerd}"},
        programs={n: f"{CONTAINERD}/cmd/{n}" for n in ("containerd", "ctr")},
        symbols={
            f"{CONTAINERD}/version.Version": f"v{V.containerd}",
        },
        tags=("urfave_cli_no_docs", "static_build", "netgo", "osusergo"),
    ),
    Component(
        name="containerd-shim",
        modules={CONTAINERD: f"v{V.containerd}"},
        programs={"containerd-shim-runc-v2": f"{CONTAINERD}/cmd/containerd-shim-runc-v2"},
        symbols={f"{CONTAINERD}/version.Version": f"v{V.containerd}"},
        tags=("no_grpc", "urfave_cli_no_docs", "static_build", "netgo", "osusergo"),
    ),
    Component(
        name="cni-plugins",
        modules={CNI: f"v{CNI_PLUGINS}"},
        programs={n: f"{CNI}/plugins/{kind}/{n}" for kind, ns in CNI_KINDS.items() for n in ns},
        symbols={f"{CNI}/pkg/utils/buildversion.BuildVersion": f"v{CNI_PLUGINS}"},
    ),
    Component(
        name="flannel",
        modules={FLANNEL: flannel.VERSION},
        programs={"flanneld": FLANNEL, "install-conf": f"{FLANNEL}/cmd/install_conf"},
        symbols={f"{FLANNEL}/pkg/version.Version": flannel.VERSION},
        # The udp backend is C and amd64 only; without C flannel does not compile there.
        cgo=("amd64",),
        # The backend for Tencent's cloud: the module proxy at hand refuses that cloud's SDK.
        # Its Windows twin is the same empty package upstream.
        emptied=("pkg/backend/tencentvpc/tencentvpc.go",),
    ),
    Component(
        name="flannel-cni",
        modules={CNI: f"v{FLANNEL_CNI_SOURCE}"},
        programs={"flannel": f"{CNI}/plugins/meta/flannel"},
        symbols={f"{CNI}/pkg/utils/buildversion.BuildVersion": f"v{FLANNEL_CNI_SOURCE}"},
    ),
    Component(
        name="kube-router",
        modules={KUBE_ROUTER: kube_router.VERSION},
        programs={"kube-router": f"{KUBE_ROUTER}/cmd/kube-router"},
        symbols={f"{KUBE_ROUTER}/pkg/version.Version": kube_router.VERSION},
    ),
)

RUNC_MODULE = "github.com/opencontainers/runc"
RUNC_COMPONENT = Component(
    name="runc",
    modules={RUNC_MODULE: f"v{RUNC}"},
    programs={"runc": RUNC_MODULE},
    tags=("seccomp", "urfave_cli_no_docs", "netgo", "osusergo"),
    cgo=("amd64", "arm64"),
)
