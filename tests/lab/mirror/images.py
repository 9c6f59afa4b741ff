"""The container images of the mirror, with the names and tags that kubeadm and flannel ask for.

Sources: build/server-image/*/Dockerfile, build/pause/Dockerfile and
test/images/agnhost/Dockerfile of Kubernetes, the Dockerfiles of CoreDNS and flannel. Where
upstream stands on distroless or Alpine, an image here stands on nothing or on a few Debian
packages, unpacked and never run at build time.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nodeagent.cluster.cni import flannel as F
from nodeagent.cluster.cni import kube_router as R
from nodeagent.cluster.versions import Tested

from . import debian
from .oci import CAP_NET_BIND_SERVICE, Image, Layer, Layout
from .recipes import AGNHOST, part, releases
from .store import Store, key_of, recipe

APPLETS = (
    "sh", "cat", "chmod", "cp", "echo", "env", "ip", "ls", "mkdir", "mv", "nslookup", "ps",
    "rm", "sleep", "touch", "wget",
)  # fmt: skip
# What Debian's alternatives would point at; maintainer scripts are not run here.
XTABLES = [
    f"{family}{action}"
    for family in ("iptables", "ip6tables")
    for action in ("", "-save", "-restore")
]
WEIGHT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian",
          "usr/share/bash-completion", "usr/share/gcc", "usr/share/perl5")  # fmt: skip


def _ground(layer: Layer) -> None:
    """What any program may expect of a root file system."""
    layer.directory("/tmp", 0o1777)
    users = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
    layer.file("/etc/passwd", users.encode())
    layer.file("/etc/group", b"root:x:0:\nnonroot:x:65532:\n")


def _scratch(*programs: Path, at: str = "/usr/local/bin", capability: int = -1) -> bytes:
    layer = Layer()
    _ground(layer)
    for program in programs:
        layer.file(f"{at}/{program.name}", program.read_bytes(), 0o755, capability)
    return layer.close()


def _over(*programs: Path, at: str) -> bytes:
    """A layer that only adds programs to the one below it."""
    layer = Layer()
    for program in programs:
        layer.file(f"{at}/{program.name}", program.read_bytes(), 0o755)
    return layer.close()


def _debian(store: Store, debs: Path, *only: str) -> bytes:
    """A base layer of unpacked Debian packages, all of ``debs`` or only those named."""
    tree = store.root / "scratch" / "image-base"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "lib", "sbin", *(["lib64"] if store.arch == "amd64" else [])):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
    for deb in sorted(debs.glob("*.deb")):
        if not only or deb.name.partition("_")[0] in only:
            subprocess.run(["dpkg-deb", "-x", deb, tree], check=True)
    for folder in (*WEIGHT, *(str(p.relative_to(tree)) for p in tree.glob("usr/lib/*/gconv"))):
        shutil.rmtree(tree / folder, ignore_errors=True)
    for name in sorted(one.name for one in (tree / "usr").iterdir()):
        # Debian's merged /usr: base-files would bring these links.
        if name in ("bin", "sbin", "lib", "lib64"):
            (tree / name).symlink_to(f"usr/{name}")
    for applet in APPLETS:
        if not (tree / "usr" / "bin" / applet).exists():
            (tree / "usr" / "bin" / applet).symlink_to("busybox")
    if (tree / "usr" / "sbin" / "xtables-nft-multi").exists():
        for name in XTABLES:
            (tree / "usr" / "sbin" / name).unlink(missing_ok=True)
            (tree / "usr" / "sbin" / name).symlink_to("xtables-nft-multi")
    (tree / "etc" / "passwd").unlink(missing_ok=True)
    layer = Layer()
    _ground(layer)
    layer.tree(tree)
    shutil.rmtree(tree)
    return layer.close()


def described(store: Store, built: dict[str, Path]) -> Iterator[Image]:
    """All images of the mirror, one after the other: together they are a gigabyte."""
    debs = debian.closure(store, "debian-image", debian.IMAGE_PACKAGES)
    busybox, filters = _debian(store, debs, "busybox-static"), _debian(store, debs)
    for release in releases():
        yield from _of_kubernetes(built, release, filters)
    flannel = [built["flannel"] / name for name in ("flanneld", "install-conf")]
    agnhost = (busybox, _over(built["kubernetes"] / "agnhost", at=""))
    yield Image("agnhost", AGNHOST, agnhost, ("/agnhost",), ("pause",))
    flanneld = (filters, _over(*flannel, at="/opt/bin"))
    yield Image("flannel", F.VERSION, flanneld, ("/opt/bin/flanneld",))
    plugin = (busybox, _over(built["flannel-cni"] / "flannel", at=""))
    yield Image("flannel-cni-plugin", F.CNI_PLUGIN_VERSION, plugin)
    routing = _debian(store, debian.closure(store, "debian-router", debian.ROUTER_PACKAGES))
    router = (filters, routing, _over(built["kube-router"] / "kube-router", at="/usr/local/bin"))
    yield Image("kube-router", R.VERSION, router, ("/usr/local/bin/kube-router",))


def _of_kubernetes(built: dict[str, Path], release: Tested, filters: bytes) -> Iterator[Image]:
    """What kubeadm of a release asks for."""
    kube, tag = built[part("kubernetes", release)], f"v{release.kubernetes}"
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        yield Image(name, tag, (_scratch(kube / name),), (f"/usr/local/bin/{name}",))
    proxy = (filters, _over(kube / "kube-proxy", at="/usr/local/bin"))
    yield Image("kube-proxy", tag, proxy, ("/usr/local/bin/kube-proxy",))
    folder = built[part("etcd", release)]
    etcd = _scratch(*(folder / name for name in ("etcd", "etcdctl", "etcdutl")))
    yield Image("etcd", release.etcd, (etcd,))
    program = built[part("coredns", release)] / "coredns"
    coredns = _scratch(program, at="", capability=CAP_NET_BIND_SERVICE)
    yield Image("coredns", release.coredns, (coredns,), ("/coredns",), user="65532:65532")
    pause = _over(built[part("pause", release)] / "pause", at="")
    yield Image("pause", release.pause, (pause,), ("/pause",), user="65535:65535")


def layout(store: Store, built: dict[str, Path]) -> Path:
    """The part ``oci``: an OCI layout with every image, and their names in ``images``."""

    def make(target: Path) -> None:
        made = Layout(target, store.arch)
        names: list[str] = []
        for image in described(store, built):
            if f"{image.reference}\n" not in names:  # of two releases
                made.add(image)
                names.append(f"{image.reference}\n")
        made.close()
        (target / "images").write_text("".join(names))

    keys = {name: (one / ".key").read_text() for name, one in built.items()}
    tags = [AGNHOST, F.VERSION, F.CNI_PLUGIN_VERSION, R.VERSION, *map(asdict, releases())]
    return store.part("oci", key_of(keys, tags, recipe("oci", "images", "debian")), make)
