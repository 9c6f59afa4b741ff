"""Builds one component of ``recipes.py`` from the Go module proxy.

Each component is built in a scratch module that only requires it. Replacements in the
component's own go.mod do not count there, which is what is wanted: Kubernetes and etcd replace
their sister modules by directories that a module zip does not have, and both publish those
modules at a version of their own. The Go checksum database verifies every module.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from .recipes import Component
from .store import MirrorError, Store, key_of

TRIPLES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
STAGED = re.compile(r"^\s*(\S+) => \./staging/", re.MULTILINE)


def c_compiler(arch: str) -> str:
    """The C compiler for an architecture: Debian's own or its cross compiler, same name."""
    return f"{TRIPLES[arch]}-gcc"


def go_environment(store: Store, *, cgo: bool = False) -> dict[str, str]:
    """Caches inside the lab's cache, so that removing that removes everything."""
    return {
        "GOOS": "linux",
        "GOARCH": store.arch,
        "GOMODCACHE": str(store.shared / "go" / "mod"),
        "GOCACHE": str(store.shared / "go" / "build"),
        "GOFLAGS": "-mod=mod -modcacherw -trimpath -buildvcs=false",
        "GOWORK": "off",
        "CGO_ENABLED": "1" if cgo else "0",
        "CC": c_compiler(store.arch),
    }


def download(store: Store, module: str, version: str) -> dict[str, str]:
    """Fetch a module; the answer names ``Dir``, ``GoMod`` and ``Info`` on disk."""
    text = store.run(
        "go-download",
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        env=go_environment(store),
        cwd=store.shared,
    )
    answer: dict[str, str] = json.loads(text)
    return answer


def _go_mod(store: Store, component: Component) -> str:
    first, *_ = component.modules
    text = Path(download(store, first, component.version)["GoMod"]).read_text()
    # The go line decides the defaults of GODEBUG, so the component's own is carried over; any
    # below 1.17 would load the module graph unpruned and needlessly large.
    said = re.search(r"^go (\d+)\.(\d+)\S*$", text, re.MULTILINE)
    modern = said is not None and (int(said[1]), int(said[2])) >= (1, 17)
    lines = ["module nodeagent.lab/mirror", said[0] if said and modern else "go 1.17"]
    lines += [f"require {module} {version}" for module, version in component.modules.items()]
    if component.staging:
        lines += [f"replace {m} => {m} {component.staging}" for m in STAGED.findall(text)]
    return "\n".join(lines) + "\n"


def _linker_flags(store: Store, component: Component, cgo: bool) -> str:
    first, *_ = component.modules
    info = Path(download(store, first, component.version)["Info"]).read_text()
    flags = ["-s", "-w"]
    for symbol, value in component.symbols.items():
        flags += ["-X", f"{symbol}={value.format(date=json.loads(info)['Time'])}"]
    if cgo:
        flags += ["-linkmode", "external", "-extldflags", "-static"]
    return " ".join(flags)


def _emptied_copy(store: Store, component: Component, scratch: Path) -> None:
    """Let the scratch module use a copy of the source in which some files are empty."""
    first, *_ = component.modules
    source = scratch / "source"
    # Not copytree's metadata: the module cache may be read-only.
    shutil.copytree(
        download(store, first, component.version)["Dir"], source, copy_function=shutil.copyfile
    )
    for name in component.emptied:
        (source / name).parent.chmod(0o755)
        (source / name).write_text(f"package {(source / name).parent.name}\n")
    with (scratch / "go.mod").open("a") as file:
        file.write(f"replace {first} => ./source\n")


def build(store: Store, component: Component, extra: Mapping[str, str] | None = None) -> Path:
    """The part ``bin-<component>``: a directory with the component's programs."""

    def make(target: Path) -> None:
        cgo = store.arch in component.cgo
        scratch = store.root / "scratch" / component.name
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        (scratch / "go.mod").write_text(_go_mod(store, component))
        if component.emptied:
            _emptied_copy(store, component, scratch)
        flags = ["-ldflags", _linker_flags(store, component, cgo)]
        if component.tags:
            flags += ["-tags", ",".join(component.tags)]
        out = scratch / "out"
        out.mkdir()
        store.run(
            f"go-{component.name}",
            ["go", "build", *flags, "-o", f"{out}/", *component.programs.values()],
            env={**go_environment(store, cgo=cgo), **(extra or {})},
            cwd=scratch,
        )
        for name, package in component.programs.items():
            # go names a program after its package's last element that is not a major version.
            made = next(e for e in reversed(package.split("/")) if not re.fullmatch(r"v\d+", e))
            (out / made).rename(target / name)
        shutil.rmtree(scratch)

    if store.arch not in TRIPLES:
        raise MirrorError(f"No recipe for architecture {store.arch}: use amd64 or arm64.")
    return store.part(f"bin-{component.name}", key_of(asdict(component)), make)
