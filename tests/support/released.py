"""Released versions of this project, each as a checkout below build/.

A clone at the release's commit, so nothing that was built is kept in the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# Version -> commit, oldest first. A release stays here for good.
RELEASES = {"0.2.0": "a7795810648c3b7263a34daf849e7683f04014d5"}


def checkout(version: str) -> Path:
    """The tree of a release. Raises CalledProcessError where its commit is not in this clone."""
    commit = RELEASES[version]
    place = PROJECT / "build" / "released" / commit
    if not place.exists():
        fresh = place.with_name(f"{commit}.{os.getpid()}")
        subprocess.run(["git", "clone", "-q", "--shared", "-n", str(PROJECT), fresh], check=True)
        subprocess.run(["git", "-C", str(fresh), "checkout", "-q", commit], check=True)
        try:
            fresh.rename(place)
        except OSError:  # another worker was faster
            shutil.rmtree(fresh)
    return place


def package(version: str) -> Path:
    """The .deb of a release, built of its own checkout. Raises CalledProcessError."""
    place = checkout(version)
    subprocess.run(["make", "-s", "-C", str(place), "deb"], check=True, stdout=subprocess.DEVNULL)
    return place / "dist" / f"nodeagent_{version}_all.deb"
