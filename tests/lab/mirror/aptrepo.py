"""The docroot of port 80: three apt repositories, laid out and signed like the upstream ones.

* ``kubernetes/core:/stable:/vX.Y/deb/`` is flat, as the Kubernetes project's is;
* ``docker/linux/debian/`` has dists/ and pool/, as Docker's has, its key at ``gpg``;
* ``debian/`` holds the part of Debian that the guests add to their base image.
"""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

from . import debian
from .keys import SigningKey
from .store import Store, key_of, recipe


def _plain(name: str) -> str:
    """A .deb's file name without the epoch, which no archive keeps in its file names."""
    return re.sub(r"_\d+%3a", "_", name)


def _packages(store: Store, root: Path, pool: str, index: Path) -> None:
    """Write ``Packages`` and ``Packages.gz`` into ``index`` for the .debs below ``root/pool``."""
    index.mkdir(parents=True, exist_ok=True)
    text = store.run("apt-repository", ["apt-ftparchive", "packages", pool], cwd=root)
    (index / "Packages").write_text(text)
    (index / "Packages.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _release(store: Store, folder: Path, key: SigningKey, **fields: str) -> None:
    options = [
        option
        for name, value in fields.items()
        for option in ("-o", f"APT::FTPArchive::Release::{name}={value}")
    ]
    made = store.run("apt-repository", ["apt-ftparchive", *options, "release", "."], cwd=folder)
    (folder / "Release").write_text(made)
    key.sign_release(folder / "Release")


def kubernetes_path(minor: str) -> str:
    """The path that upstream's repository of a minor has on its host."""
    return f"kubernetes/core:/stable:/v{minor}/deb"


def _kubernetes(store: Store, www: Path, debs: Path) -> None:
    folder, key = www / kubernetes_path(debs.name), SigningKey(store, "kubernetes")
    shutil.copytree(debs, folder / store.arch)
    _packages(store, folder, store.arch, folder)
    name = f"lab://isv:kubernetes:core:stable:v{debs.name}/deb"
    _release(store, folder, key, Origin=name, Label=name, Architectures=store.arch)
    shutil.copyfile(key.armored, folder / "Release.key")


def _pooled(store: Store, root: Path, component: str, debs: Path, name: str, origin: str) -> None:
    """A repository with dists/<suite>/<component> and a pool."""
    key = SigningKey(store, name)
    dist = root / "dists" / debian.SUITE
    pool = f"pool/{component}"
    (root / pool).mkdir(parents=True)
    for deb in sorted(debs.glob("*.deb")):
        shutil.copyfile(deb, root / pool / _plain(deb.name))
    _packages(store, root, pool, dist / component / f"binary-{store.arch}")
    _release(
        store, dist, key, Origin=origin, Label=origin, Suite=debian.SUITE,
        Codename=debian.SUITE, Architectures=store.arch, Components=component,
    )  # fmt: skip


def www(store: Store, debs: Path) -> Path:
    """The part ``www``."""
    guest = debian.closure(store, "debian-guest", debian.GUEST_PACKAGES)

    def make(target: Path) -> None:
        for minor in sorted((debs / "kubernetes").iterdir()):
            _kubernetes(store, target, minor)
        docker = target / "docker" / "linux" / "debian"
        _pooled(store, docker, "stable", debs / "docker", "docker", "Docker")
        shutil.copyfile(SigningKey(store, "docker").armored, docker / "gpg")
        _pooled(store, target / "debian", "main", guest, "debian", "nodeagent lab")
        shutil.copyfile(SigningKey(store, "debian").binary, target / "debian" / "lab.gpg")

    prints = [SigningKey(store, name).fingerprint for name in ("kubernetes", "docker", "debian")]
    inputs = [(one / ".key").read_text() for one in (debs, guest)]
    return store.part("www", key_of(prints, inputs, recipe("aptrepo", "keys")), make)
