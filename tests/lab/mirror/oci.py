"""Writes container images as an OCI layout (OCI image format 1.1), with nothing but tar and gzip.

No root file system is entered and nothing foreign is run, so images of any architecture can be
made on any machine. Everything in a layer belongs to root and has time 0: the same input gives
the same digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAP_NET_BIND_SERVICE = 10


@dataclass(frozen=True)
class Image:
    """One image: layers from the bottom up, and what the runtime starts from it."""

    name: str
    tag: str
    layers: tuple[bytes, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}"


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.mode = mode
    return entry


class Layer:
    """A layer in the making: an uncompressed tar in memory."""

    def __init__(self) -> None:
        self._raw = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._raw, mode="w", format=tarfile.PAX_FORMAT)
        self._made: set[str] = set()

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory, and those above it, unless already there."""
        path = path.strip("/")
        if not path or path in self._made:
            return
        self.directory(path.rpartition("/")[0])
        self._made.add(path)
        entry = _entry(path, mode)
        entry.type = tarfile.DIRTYPE
        self._tar.addfile(entry)

    def link(self, path: str, target: str) -> None:
        self.directory(path.rpartition("/")[0])
        entry = _entry(path, 0o777)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def file(self, path: str, data: bytes, mode: int = 0o644, capability: int = -1) -> None:
        """Add a file, with one file capability (capabilities(7), revision 2) if asked for."""
        self.directory(path.rpartition("/")[0])
        entry = _entry(path, mode)
        entry.size = len(data)
        if capability >= 0:
            value = struct.pack("<5I", 0x0200_0001, 1 << capability, 0, 0, 0)
            entry.pax_headers = {"SCHILY.xattr.security.capability": value.decode("ascii")}
        self._tar.addfile(entry, io.BytesIO(data))

    def tree(self, root: Path) -> None:
        """Add everything below a directory."""
        for path in sorted(root.rglob("*")):
            name = f"/{path.relative_to(root)}"
            if path.is_symlink():
                self.link(name, str(path.readlink()))
            elif path.is_dir():
                self.directory(name, stat.S_IMODE(path.stat().st_mode))
            elif path.is_file():
                self.file(name, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))

    def close(self) -> bytes:
        self._tar.close()
        return self._raw.getvalue()


class Layout:
    """An OCI layout on disk; equal layers are stored once."""

    def __init__(self, root: Path, arch: str) -> None:
        self.root, self.arch = root, arch
        (root / "blobs" / "sha256").mkdir(parents=True)
        self._layers: dict[str, dict[str, object]] = {}
        self._index: list[dict[str, object]] = []

    def _blob(self, kind: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (self.root / "blobs" / "sha256" / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    def _layer(self, raw: bytes) -> tuple[str, dict[str, object]]:
        diff = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if diff not in self._layers:
            # wbits 31: with a gzip header, whose time zlib leaves at 0.
            pack = zlib.compressobj(6, zlib.DEFLATED, 31)
            packed = pack.compress(raw) + pack.flush()
            self._layers[diff] = self._blob("layer.v1.tar+gzip", packed)
        return diff, self._layers[diff]

    def add(self, image: Image) -> None:
        layers = [self._layer(raw) for raw in image.layers]
        run: dict[str, object] = {"Env": [f"PATH={PATH}"], "WorkingDir": "/"}
        for name, value in (("Entrypoint", image.entrypoint), ("Cmd", image.command)):
            if value:
                run[name] = list(value)
        if image.user:
            run["User"] = image.user
        config = {
            "architecture": self.arch,
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [diff for diff, _ in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._blob("config.v1+json", json.dumps(config).encode()),
            "layers": [descriptor for _, descriptor in layers],
        }
        entry = self._blob("manifest.v1+json", json.dumps(manifest).encode())
        # skopeo's oci: transport splits at colons, so none is in the name here.
        entry["annotations"] = {"org.opencontainers.image.ref.name": f"{image.name}-{image.tag}"}
        self._index.append(entry)

    def close(self) -> None:
        (self.root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        index = {"schemaVersion": 2, "manifests": self._index}
        (self.root / "index.json").write_text(json.dumps(index))
