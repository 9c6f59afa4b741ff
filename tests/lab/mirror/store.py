"""Where the mirror lives, and how a part of it comes into being.

A part is a directory that is either whole or absent: it is made beside its place and renamed
into it, so a build can be killed at any instant. ``.key`` in it is a hash of all that it was
made from; a part whose key still holds is not made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STARTED = time.monotonic()


class MirrorError(Exception):
    """Something that stops the mirror: what happened, why, what to do, in plain words."""


def say(text: str) -> None:
    """Print one line of progress with the time since the start."""
    elapsed = int(time.monotonic() - STARTED)
    print(f"mirror {elapsed // 60:3d}:{elapsed % 60:02d}  {text}", flush=True)


def key_of(*inputs: object) -> str:
    """A short hash over plain data (whatever json can write, in any order of keys)."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def recipe(*modules: str) -> str:
    """A hash of modules of this package: a cheap part is made again when its recipe changes."""
    return key_of([Path(__file__).with_name(f"{one}.py").read_text() for one in modules])


@dataclass(frozen=True)
class Store:
    """The mirror's part of the lab's cache for one architecture."""

    arch: str

    @property
    def shared(self) -> Path:
        """What does not depend on the architecture: keys, the CA, Go's caches."""
        default = Path.home() / ".cache" / "nodeagent-lab"
        return Path(os.environ.get("NODEAGENT_LAB_CACHE") or default).absolute() / "mirror"

    @property
    def root(self) -> Path:
        return self.shared / self.arch

    @property
    def logs(self) -> Path:
        return self.root / "log"

    def part(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """The part called ``name``, made by ``make(empty directory)`` unless it holds."""
        place = self.root / name
        if (place / ".key").is_file() and (place / ".key").read_text() == key:
            return place
        fresh, stale = place.with_name(f".{name}.new"), place.with_name(f".{name}.old")
        for left in (fresh, stale):
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir(parents=True)
        begin = time.monotonic()
        say(f"{name}: making")
        make(fresh)
        (fresh / ".key").write_text(key)
        # rename() cannot replace a directory with things in it: there is an instant in which
        # the part is absent, and a build killed in it makes the part again.
        if place.exists():
            place.rename(stale)
        fresh.rename(place)
        shutil.rmtree(stale, ignore_errors=True)
        seconds = round(time.monotonic() - begin, 1)
        with (self.root / "timings.jsonl").open("a") as timings:
            timings.write(json.dumps({"part": name, "key": key, "seconds": seconds}) + "\n")
        say(f"{name}: done in {seconds:.0f} s")
        return place

    def run(
        self,
        log: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
    ) -> str:
        """Run a command to its end; what it prints on stderr goes to the named log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"{log}.log"
        with path.open("a") as file:
            file.write(f"$ {' '.join(map(str, argv))}\n")
            file.flush()
            done = subprocess.run(
                # Killed with the build, whatever ends that: its successor cleans up after it.
                ["setpriv", "--pdeathsig", "KILL", *map(str, argv)],
                env={**os.environ, **(env or {})},
                cwd=cwd,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                check=False,
            )
            file.write(done.stdout[-4000:])
        if done.returncode:
            raise MirrorError(
                f"{argv[0]} failed with exit code {done.returncode}. Its output is in {path}; "
                "mend the cause and build again: what is done is kept."
            )
        return done.stdout


def need_linux() -> None:
    if sys.platform != "linux":
        raise MirrorError("The mirror is built on Linux only: run it on Debian or Ubuntu.")
