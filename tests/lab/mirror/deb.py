"""Packs a tree of files into a Debian package (deb(5), Debian Policy 5.3 for the fields)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .store import Store


@dataclass(frozen=True)
class Package:
    """What a package says of itself and holds.

    ``files`` maps a path in the package to the file it is copied from; ``texts`` to its text.
    A program is what lies in a bin directory or is copied; texts are plain files.
    """

    name: str
    version: str
    summary: str
    relations: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)


def _control(package: Package, arch: str, kilobytes: int) -> str:
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": arch,
        "Maintainer": "nodeagent lab <lab@nodeagent.invalid>",
        "Installed-Size": str(kilobytes),
        **package.relations,
        "Section": "admin",
        "Priority": "optional",
        "Description": f"{package.summary}\n Built by the nodeagent lab from Go modules.",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def pack(store: Store, package: Package, folder: Path) -> Path:
    """Write the package into ``folder`` and return its file."""
    tree = store.root / "scratch" / f"deb-{package.name}"
    shutil.rmtree(tree, ignore_errors=True)
    for path, source in package.files.items():
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        place.chmod(0o755)
    for path, text in package.texts.items():
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o644)
    size = sum(one.stat().st_size for one in tree.rglob("*") if one.is_file())
    meta = tree / "DEBIAN"
    meta.mkdir(parents=True)
    (meta / "control").write_text(_control(package, store.arch, size // 1024 + 1))
    conffiles = [path for path in package.texts if path.startswith("/etc/")]
    if conffiles:
        (meta / "conffiles").write_text("".join(f"{path}\n" for path in conffiles))
    for name, text in package.scripts.items():
        (meta / name).write_text(f"#!/bin/sh\nset -e\n{text}")
        (meta / name).chmod(0o755)
    for directory in [tree, *(one for one in tree.rglob("*") if one.is_dir())]:
        directory.chmod(0o755)
    deb = folder / f"{package.name}_{package.version}_{store.arch}.deb"
    # zstd is what a guest under emulation unpacks fastest; dpkg knows it since 1.21.18.
    compress = ["-Zzstd", "-z9", "--root-owner-group"]
    store.run("deb", ["dpkg-deb", *compress, "--build", tree, deb])
    shutil.rmtree(tree)
    return deb
