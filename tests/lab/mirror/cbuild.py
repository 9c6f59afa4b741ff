"""The two programs that need a C compiler: pause and runc.

pause is C; runc is Go around C (its nsenter must run before the Go runtime does) and needs
libseccomp, which is taken from the guests' release and linked in, as upstream's release does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from nodeagent.cluster.versions import Tested

from . import debian
from .gobuild import TRIPLES, build, c_compiler, download
from .recipes import K8S, RUNC_COMPONENT, part, releases
from .store import Store, key_of


def pause(store: Store, release: Tested) -> Path:
    """A release's part ``bin-pause``, with the flags of ``build/pause/Makefile``."""

    def make(target: Path) -> None:
        source = download(store, K8S, f"v{release.kubernetes}")["Dir"]
        flags = ["-Os", "-Wall", "-Werror", "-static", f"-DVERSION=v{release.pause}", "-s"]
        files = [f"{source}/build/pause/linux/pause.c", "-o", f"{target}/pause"]
        store.run("pause", [c_compiler(store.arch), *flags, *files])

    # Of each version of pause the first release that has it: the source is the same.
    first = next(one for one in releases() if one.pause == release.pause)
    key = key_of(release.pause, first.kubernetes)
    return store.part(f"bin-{part('pause', release)}", key, make)


def runc(store: Store) -> Path:
    """The part ``bin-runc``: one static program with seccomp."""

    def unpack(target: Path) -> None:
        debs = debian.closure(store, "debian-seccomp", ("libseccomp-dev",))
        for deb in sorted(debs.glob("libseccomp*.deb")):
            subprocess.run(["dpkg-deb", "-x", deb, target], check=True)

    root = store.part("sysroot-seccomp", key_of(debian.SUITE, "libseccomp-dev"), unpack)
    library = root / "usr" / "lib" / TRIPLES[store.arch]
    environment = {
        # libseccomp's Go package asks pkg-config, which would answer for the machine itself.
        "PKG_CONFIG": "true",
        "CGO_CFLAGS": f"-O2 -g -I{root}/usr/include",
        "CGO_LDFLAGS": f"-L{library} -lseccomp",
    }
    return build(store, RUNC_COMPONENT, environment)
