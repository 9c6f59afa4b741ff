"""The registry of the mirror: Debian's docker-registry over a storage directory."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .store import MirrorError, Store, key_of, say


def command(config: Path) -> list[str]:
    """It ends with its parent, even when that is killed: an orphan would keep the port."""
    return ["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve", str(config)]


def configuration(storage: Path, address: str, tls: Path | None, *, readonly: bool) -> str:
    """The registry's configuration; it reads YAML, of which JSON is a part."""
    http: dict[str, object] = {"addr": address, "secret": "lab"}
    if tls:
        http["tls"] = {"certificate": f"{tls}/server.crt", "key": f"{tls}/server.key"}
    return json.dumps(
        {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": not readonly}},
            "storage": {
                "filesystem": {"rootdirectory": str(storage), "maxthreads": 100},
                "cache": {"blobdescriptor": "inmemory"},
                "maintenance": {
                    "uploadpurging": {"enabled": False},
                    "readonly": {"enabled": readonly},
                },
            },
            "http": http,
        }
    )


def wait_for_port(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when something listens; give up when the process ends or 30 seconds pass."""
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection((address, port), timeout=1):
            return
        time.sleep(0.1)
    raise MirrorError(
        f"docker-registry does not answer on {address}:{port}; what it said is in {log}. "
        "Is another registry running there?"
    )


@contextmanager
def _filling(store: Store, storage: Path) -> Iterator[str]:
    """A registry without TLS on loopback while images are pushed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    store.logs.mkdir(parents=True, exist_ok=True)
    config, log = store.root / "registry-fill.yml", store.logs / "registry-fill.log"
    config.write_text(configuration(storage, f"127.0.0.1:{port}", None, readonly=False))
    with log.open("ab") as out:
        process = subprocess.Popen(command(config), stdout=out, stderr=out)
    try:
        wait_for_port("127.0.0.1", port, process, log)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        config.unlink()


def images(layout: Path) -> list[str]:
    """Names and tags of the images in a part ``oci``."""
    return (layout / "images").read_text().split()


def storage(store: Store, layout: Path) -> Path:
    """The part ``registry``: the storage directory, filled from the part ``oci``."""

    def make(target: Path) -> None:
        with _filling(store, target) as address:
            for image in images(layout):
                say(f"registry: {image}")
                source = f"oci:{layout}:{image.replace(':', '-')}"
                push = ["--dest-tls-verify=false", source, f"docker://{address}/{image}"]
                store.run("skopeo", ["skopeo", "--insecure-policy", "copy", "-q", *push])

    return store.part("registry", key_of((layout / ".key").read_text()), make)
