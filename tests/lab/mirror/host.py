"""What the machine that builds and serves the mirror needs, and how it gets there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from .debian import KEYRING
from .store import MirrorError, say

PACKAGES = Path(__file__).parents[3] / ".ci" / "packages"
# program that must be there -> Debian package that brings it
TOOLS = {
    "apt-ftparchive": "apt-utils",
    "docker-registry": "docker-registry",
    "dpkg-deb": "dpkg",
    "go": "golang-go",
    "gpg": "gnupg",
    "openssl": "openssl",
    "skopeo": "skopeo",
    "strip": "binutils",
}
COMPILERS = {
    "amd64": ("x86_64-linux-gnu-gcc", ("gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross")),
    "arm64": ("aarch64-linux-gnu-gcc", ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross")),
}


def _apt(*packages: str) -> None:
    """Install packages without letting any of them start a daemon.

    docker-registry would start itself on port 5000. invoke-rc.d asks policy-rc.d first; a
    machine's own one is left alone, and put back when there was none.
    """
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        if subprocess.run([PACKAGES, *packages]).returncode:
            raise MirrorError("The mirror's tools are missing; the reason stands above.")
    finally:
        if ours:
            policy.unlink()


def installed_tools(arch: str) -> None:
    """Install what is missing for building and serving the mirror of ``arch``."""
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if not Path(KEYRING).exists():
        missing.append("debian-archive-keyring")
    compiler, packages = COMPILERS[arch]
    if not shutil.which(compiler):
        native = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
        missing += ["gcc", "libc6-dev"] if native.stdout.strip() == arch else packages
    if missing:
        if os.geteuid():
            raise MirrorError(
                f"Not installed: {' '.join(missing)}. Run as root, or install them with apt."
            )
        say(f"installing {' '.join(missing)}")
        _apt(*missing)
    said = subprocess.run(["go", "version"], capture_output=True, text=True).stdout
    version = re.search(r"go(\d+)\.(\d+)", said)
    # From 1.21 on go fetches the newer toolchain that a module asks for, itself a Go module.
    if version is None or (int(version[1]), int(version[2])) < (1, 21):
        raise MirrorError(
            f"Go 1.21 or newer is needed, here is {said.strip() or 'none'}: install a newer one "
            "(on Debian 12 from backports) and put it first in PATH."
        )
