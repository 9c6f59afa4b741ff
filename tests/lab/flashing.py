"""Cards as users make them: with the product's own commands, on stock images."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import time
from pathlib import Path

from . import lan
from .place import REPOSITORY, LabError, cache, logs, run_folder, say

# The lab's name server is for the boards; this machine asks its own.
NAMED = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'


def product(*arguments: str, mirror: str = "") -> str:
    """What a command of this checkout's nodeagent prints. ``mirror``: it runs in the LAN, where the
    mirror has this address. Raises LabError."""
    command = REPOSITORY / ".venv" / "bin" / "nodeagent"
    if not command.exists():
        subprocess.run(["make", "-s", "venv"], cwd=REPOSITORY, check=True)
    argv = [str(command), *arguments]
    if mirror:
        hosts = run_folder() / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{mirror} mirror.lab\n")
        argv = lan.inside("sh", "-ec", NAMED, "sh", str(hosts), *argv)
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"nodeagent {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
    return done.stdout


def seed(card: Path, fleet: Path, settings: Path, deb: Path | None) -> None:
    """A flashed card becomes the fleet's; without ``deb`` it has the agent already."""
    begin = time.monotonic()
    install = ["--deb", str(deb)] if deb else ["--no-install"]
    settings_too = ["--fleet", str(fleet), "--settings", str(settings)]
    product("image", "seed", str(card), *settings_too, *install)
    say(f"image seed: {time.monotonic() - begin:.1f} s", card.stem)


def bake(arch: str, stock: Path, deb: Path, sources: str, mirror: str) -> Path:
    """The stock image with everything inside, of no fleet yet; kept until it would be another."""
    place = cache() / "image" / arch / "baked.img"
    stamp = place.with_suffix(".made-of")
    made_of = hashlib.sha256(deb.read_bytes() + sources.encode())
    made_of.update((stock.parent / "made-of").read_bytes())
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists() and stamp.exists() and stamp.read_text() == made_of.hexdigest():
            return place
        for old in (place, stamp):
            old.unlink(missing_ok=True)
        settings, log = run_folder() / "sources.yaml", logs() / "bake.jsonl"
        settings.write_text(sources)
        say(f"nodeagent image bake --with-images, for {arch}")
        begin = time.monotonic()
        product(
            "image", "bake", str(stock), "--out", str(place), "--deb", str(deb), "--with-images",
            "--settings", str(settings), "--log", str(log), mirror=mirror,
        )  # fmt: skip
        blocks = place.stat().st_blocks * 512 // 1024**2
        say(f"image bake: {time.monotonic() - begin:.0f} s, {blocks} MiB of the image in use")
        stamp.write_text(made_of.hexdigest())
    return place
