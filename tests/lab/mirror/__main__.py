"""``python3 -m tests.lab.mirror build|serve --arch amd64|arm64``."""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from nodeagent.cluster.versions import DEFAULT

from . import aptrepo, host, images, keys, packages, recipes, registry
from .serve import serve
from .store import MirrorError, Store, need_linux, say


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Only one build at a time in one cache; a second waits for the first."""
    store.root.mkdir(parents=True, exist_ok=True)
    with (store.shared / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the mirror to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(store: Store) -> None:
    """Make every part that is missing, and say last in ``manifest.json`` what there is."""
    need_linux()
    host.installed_tools(store.arch)
    with _alone(store):
        built = packages.programs(store)
        debs = packages.debs(store, built)
        aptrepo.www(store, debs)
        layout = images.layout(store, built)
        registry.storage(store, layout)
        keys.tls(store)
        manifest = {
            **{
                f"{name}_fingerprint": keys.SigningKey(store, name).fingerprint
                for name in ("kubernetes", "docker", "debian")
            },
            "releases": [one.kubernetes for one in recipes.releases()],
            "versions": {
                **asdict(DEFAULT),
                "cni_plugins": recipes.CNI_PLUGINS,
                "runc": recipes.RUNC,
                "agnhost": recipes.AGNHOST,
            },
            "images": [f"{keys.HOST}:5000/{one}" for one in registry.images(layout)],
        }
        fresh = store.root / ".manifest.json.new"
        fresh.write_text(json.dumps(manifest, indent=2) + "\n")
        fresh.rename(store.root / "manifest.json")
        # Compiled objects and sources, some ten gigabytes, are of no use until versions change.
        for left in (store.shared / "go", store.root / "apt", store.root / "scratch"):
            shutil.rmtree(left, ignore_errors=True)
    say(f"the mirror for {store.arch} is in {store.root}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.mirror", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("build", "serve"):
        sub = verbs.add_parser(verb)
        sub.add_argument("--arch", choices=sorted(host.COMPILERS), default="amd64")
        if verb == "serve":
            sub.add_argument("--address", default=keys.ADDRESS)
    asked = parser.parse_args()
    store = Store(asked.arch)
    try:
        if asked.verb == "serve":
            return serve(store, asked.address)
        build(store)
    except MirrorError as error:
        print(f"mirror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mirror: interrupted; what is done is kept, build again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
