"""Debian packages of the guests' release, fetched for any architecture without root file system.

apt runs on a private state that knows one suite and believes nothing is installed, so asking
for a package fetches it with everything it depends on, whatever the guest's base image has.
Packages are verified by Debian's own keys. The machine's own configuration says where Debian
is mirrored; NODEAGENT_LAB_DEBIAN says it where that is not Debian (an Ubuntu machine).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .store import MirrorError, Store, key_of

SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What kubeadm's checks and the kubelet want on the node but the packages of 1.32 and later no
# longer depend on, and what the images below stand on.
GUEST_PACKAGES = (
    "iptables", "nftables", "ebtables", "ethtool", "socat", "conntrack", "iproute2", "kmod",
    "mount", "util-linux", "libseccomp2",
)  # fmt: skip
IMAGE_PACKAGES = ("iptables", "nftables", "conntrack", "kmod", "busybox-static")
ROUTER_PACKAGES = ("ipset", "iproute2")  # over those


def mirror_address() -> str:
    """Where this machine gets Debian from."""
    said = os.environ.get("NODEAGENT_LAB_DEBIAN")
    if said:
        return said
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
    ).stdout
    for line in targets.splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian":
            return address
    raise MirrorError(
        "This machine's apt knows no Debian mirror. Set NODEAGENT_LAB_DEBIAN to the address of "
        "one (what stands after 'deb' in a sources.list), run apt-get update and try again."
    )


def _configuration(store: Store) -> Path:
    state = store.root / "apt"
    for folder in ("lists/partial", "cache", "etc/apt.conf.d", "etc/preferences.d"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(
        f"deb [signed-by={KEYRING}] {mirror_address()} {SUITE} main\n"
    )
    settings = {
        "APT::Architecture": store.arch,
        "APT::Architectures": store.arch,
        "APT::Install-Recommends": "false",
        # root's cache directory is closed to the user _apt.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::Etc": f"{state}/etc",
        "Dir::Etc::SourceList": f"{state}/sources.list",
        "Dir::State": str(state),
        "Dir::State::Lists": f"{state}/lists",
        "Dir::State::Status": f"{state}/status",
        "Dir::Cache": f"{state}/cache",
    }
    conf = state / "apt.conf"
    conf.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return conf


def closure(store: Store, name: str, packages: tuple[str, ...]) -> Path:
    """The part ``name``: the .debs of these packages and of all they depend on."""

    def make(target: Path) -> None:
        environment = {"APT_CONFIG": str(_configuration(store))}
        store.run("apt", ["apt-get", "-q", "update", "--error-on=any"], env=environment)
        (target / "partial").mkdir()
        archives = f"Dir::Cache::Archives={target}"
        fetch = ["apt-get", "-q", "-y", "-o", archives, "--download-only", "install", *packages]
        store.run("apt", fetch, env=environment)
        (target / "partial").rmdir()
        (target / "lock").unlink(missing_ok=True)

    return store.part(name, key_of(SUITE, packages), make)
