"""The two programs that need a C compiler: pause and runc.

pause is C; runc is Go around C (its nsenter must run before the Go runtime does) and needs
libseccomp, which is taken from the guests' release and linked in, as upstream's release does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from nodeagent.cluster.versions import DEFAULT as V

from . import debian
from .gobuild import TRIPLES, build, c_compiler, download
from .recipes import K8S, RUNC_COMPONENT
from .store import Store, key_of


def pause(store: Store) -> Path:
    """The part ``bin-pause``, with the flags of ``build/pause/Makefile``."""

    def make(target: Path) -> None:
        source = download(store, K8S, f"v{V.kubernetes}")["Dir"]
        flags = ["-Os", "-Wall", "-Werror", "-static", f"-DVERSION=v{V.pause}", "-s"]
        files = [f"{source}/build/pause/linux/pause.c", "-o", f"{target}/pause"]
        store.run("pause", [c_compiler(store.arch), *flags, *files])

    return store.part("bin-pause", key_of(V.pause, V.kubernetes), make)


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
