"""The newest Python of Debian in a small root file system of its own, below a cache.

Made by mmdebstrap from where this machine's apt gets Debian, verified by Debian's own keys. It is
whole or absent, as a killed run leaves it, and made anew when it is a month old.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.lab.mirror import debian
from tests.support import namespaces

SUITE = "sid"
PACKAGES = ("python3", "python3-cryptography")
CHECKOUT = Path(__file__).parents[2]
OLD = 30 * 24 * 3600  # seconds
BOUND = 1200  # seconds for a slow mirror
# The checkout is bound read-only; the mounts end with their namespace.
ENTER = """set -e
mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; mkdir -p "$1/checkout"
mount --bind "$2" "$1/checkout"; mount -o remount,bind,ro "$1/checkout"
root=$1; shift 2; exec chroot "$root" env -C /checkout PYTHONDONTWRITEBYTECODE=1 "$@" """


class NoPython(Exception):
    """The newest Python cannot be had; the text says why and what to do."""


def place() -> Path:
    """Where it is kept: $XDG_CACHE_HOME or ~/.cache (XDG Base Directory Specification)."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "nodeagent-python" / SUITE


def ensure() -> Path:
    """Its root folder, made where there is none. Raises NoPython."""
    root = place()
    stamp = root / ".made"
    if stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < OLD:
        return root
    if not shutil.which("mmdebstrap"):
        raise NoPython("mmdebstrap is missing. Install it with: apt-get install mmdebstrap")
    fresh = root.with_name(f"{SUITE}-new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    log = fresh.with_name("log")
    paths = ("doc/*", "man/*", "locale/*", "info/*")
    command = [
        "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        f"--keyring={debian.KEYRING}",
        # A mirror that lags behind is no harm here; signatures are checked all the same.
        "--aptopt=Acquire::Check-Valid-Until false",
        *(f"--dpkgopt=path-exclude=/usr/share/{path}" for path in paths),
        SUITE, str(fresh), debian.mirror_address(),
    ]  # fmt: skip
    with log.open("w") as out:
        try:
            done = subprocess.run(command, stdout=out, stderr=out, timeout=BOUND, check=False)
        except subprocess.TimeoutExpired:
            raise NoPython(f"Debian {SUITE} did not come within {BOUND} s; see {log}.") from None
    if done.returncode:
        raise NoPython(f"mmdebstrap failed; why is in {log}. Mend that and run again.")
    (fresh / ".made").touch()
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)
    return root


def command(root: Path, *argv: str) -> list[str]:
    """What runs ``argv`` in that root with the checkout as its working folder."""
    return namespaces.apart("sh", "-c", ENTER, "enter", str(root), str(CHECKOUT), *argv)
