"""Serves a built mirror in the foreground: apt repositories on port 80, registry on 5000."""

from __future__ import annotations

import signal
import subprocess
import threading
from types import FrameType

from .httpd import Server
from .registry import command, configuration, wait_for_port
from .store import MirrorError, Store, say

HTTP_PORT, REGISTRY_PORT = 80, 5000


def serve(store: Store, address: str) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 1 when the registry ends by itself."""
    root = store.root
    if not (root / "manifest.json").exists():
        raise MirrorError(
            f"There is no mirror for {store.arch} in {root}: make it first with "
            f"'python3 -m tests.lab.mirror build --arch {store.arch}'."
        )
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    store.logs.mkdir(parents=True, exist_ok=True)
    config, log = store.root / f"registry-{address}.yml", store.logs / "registry.log"
    where = f"{address}:{REGISTRY_PORT}"
    config.write_text(configuration(root / "registry", where, root / "tls", readonly=True))
    with (store.logs / "http.log").open("a") as http_log, log.open("ab") as registry_log:
        try:
            http = Server((address, HTTP_PORT), root / "www", http_log)
        except OSError as why:
            raise MirrorError(
                f"Cannot serve on {address}:{HTTP_PORT}: {why.strerror}. Give the address to an "
                "interface of this network namespace, and end what listens there already."
            ) from why
        registry = subprocess.Popen(command(config), stdout=registry_log, stderr=registry_log)
        try:
            threading.Thread(target=http.serve_forever, daemon=True).start()
            wait_for_port(address, REGISTRY_PORT, registry, log)
            say(f"serving http://{address}/ and https://{where}/ until told to stop")
            while not stop.wait(1):
                if registry.poll() is not None:
                    raise MirrorError(f"docker-registry ended by itself; why is in {log}.")
            return 0
        finally:
            http.shutdown()
            registry.terminate()
            registry.wait()
