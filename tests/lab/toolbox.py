"""The lab's tools, in a small Debian trixie of their own below the cache.

QEMU must be 10 or newer: 7.2 of Debian 12 corrupts guests with ``-accel tcg,thread=multi``. With
it come the tools that make disks and serve the LAN, so that they are the same on every machine
and no daemon of this machine is touched. A command runs there in a mount namespace of its own
that ends with it, the cache at its usual path.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import namespaces

from .mirror import debian
from .place import NAMESPACE, REPOSITORY, LabError, cache, say

SUITE = "trixie"
PACKAGES = (
    "qemu-system-x86", "qemu-system-arm", "qemu-utils", "mtools", "dosfstools", "e2fsprogs",
    "dnsmasq-base", "chrony", "nftables",
)  # fmt: skip
# program that this machine must have itself -> package
HOST = {
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "apt-ftparchive": "apt-utils",
    # for `nodeagent image seed` and `bake`
    "mcopy": "mtools",
    "sfdisk": "fdisk",
    "fuse2fs": "fuse2fs",
    "bwrap": "bubblewrap",
    "slirp4netns": "slirp4netns",
}
ENTER = """set -e
mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"
mkdir -p "$1$2"; mount --bind "$2" "$1$2"
root=$1; shift 2; exec chroot "$root" "$@" """
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}  # uname(2)'s names, and Debian's
BINFMT = Path("/proc/sys/fs/binfmt_misc")  # kernel docs, "Kernel Support for miscellaneous"
KVM_GET_API_VERSION = 0xAE00  # linux/kvm.h


def install_host_tools() -> None:
    """Install by apt what this machine lacks. None of these packages starts a daemon."""
    missing = sorted({HOST[tool] for tool in HOST if not shutil.which(tool)})
    if not missing:
        return
    if subprocess.run([REPOSITORY / ".ci" / "packages", *missing]).returncode:
        raise LabError("The lab's tools are missing; the reason stands above.")


def root() -> Path:
    """Where the toolbox is."""
    return cache() / "tools" / "root"


def ensure() -> None:
    """Make the toolbox unless it is there: whole or absent, as a killed run leaves it."""
    place, stamp = root(), root() / ".packages"
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == " ".join(PACKAGES):
            return
        say("making the toolbox (QEMU 10 and what makes disks), once")
        fresh = place.with_name("new")
        for left in (fresh, place):
            shutil.rmtree(left, ignore_errors=True)
        log = place.parent / "log"
        bootstrap(fresh, PACKAGES, "minbase", log, docs_option())
        (fresh / ".packages").write_text(" ".join(PACKAGES))
        fresh.rename(place)


def docs_option() -> list[str]:
    """Leave documentation and translations out."""
    paths = ("doc/*", "man/*", "locale/*", "info/*")
    return [f"--dpkgopt=path-exclude=/usr/share/{path}" for path in paths]


def bootstrap(
    target: Path,
    packages: Sequence[str],
    variant: str,
    log: Path,
    options: Sequence[str] = (),
    suite: str = SUITE,
) -> None:
    """mmdebstrap with Debian's own keys, from where this machine's apt gets Debian."""
    command = ["mmdebstrap", "--mode=root", f"--variant={variant}", *options]
    command += [f"--include={','.join(packages)}", f"--keyring={debian.KEYRING}"]
    with log.open("w") as out:
        done = subprocess.run(
            [*command, suite, str(target), debian.mirror_address()], stdout=out, stderr=out
        )
    if done.returncode:
        raise LabError(f"mmdebstrap failed; why is in {log}. Mend that and run again.")


def run_foreign(arch: str) -> None:
    """Let this machine run programs of ``arch`` where it is of another one: packages' scripts run
    while the image is made. Emulation is registered as systemd-binfmt.service(8) would; where
    there is no systemd, as in containers, nobody else does. Raises LabError."""
    if arch == NATIVE.get(os.uname().machine):
        return
    if subprocess.run(
        [REPOSITORY / ".ci" / "packages", "arch-test", "qemu-user-static"]
    ).returncode:
        raise LabError(f"Programs of {arch} cannot be run here; the reason stands above.")
    machine = next(uname for uname, known in NATIVE.items() if known == arch)
    name = f"qemu-{machine}"
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    if not (BINFMT / name).exists():
        (BINFMT / "register").write_text(Path(f"/usr/lib/binfmt.d/{name}.conf").read_text())


def command(*argv: str | Path, network: bool = False) -> list[str]:
    """The command line that runs ``argv`` in the toolbox; ``network``: in the lab's LAN.

    Each link of it is an exec: the process that is started is the tool itself in the end.
    """
    enter = ["sh", "-c", ENTER, "toolbox", str(root()), str(cache()), *map(str, argv)]
    return namespaces.inside(NAMESPACE, *enter) if network else namespaces.apart(*enter)


def run(*argv: str | Path, stdin: str | None = None) -> str:
    """Run a tool to its end and give what it printed. Raises LabError."""
    done = subprocess.run(command(*argv), input=stdin, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise LabError(f"{' '.join(map(str, argv))} failed: {said}")
    return done.stdout


def kvm_works(arch: str, kernel: Path, seconds: float = 5.0) -> bool:
    """Whether guests can run on the processor itself: asked, then seen.

    A /dev/kvm that answers may belong to a hypervisor that emulates, or that lacks what QEMU asks
    for, and QEMU may take its time to say so. So the guests' own kernel is started: one that does
    not come as far as it can within ``seconds``, half of what emulation takes, has no use of it.
    """
    if NATIVE.get(os.uname().machine) != arch:
        return False
    try:
        with open("/dev/kvm", "rb+", buffering=0) as device:
            if fcntl.ioctl(device, KVM_GET_API_VERSION, 0) != 12:
                return False
    except OSError:
        return False
    return boots(arch, kernel, KVM, seconds)


def boots(arch: str, kernel: Path, accelerator: Sequence[str], seconds: float) -> bool:
    """Whether ``kernel``, alone in a guest, comes as far as missing its root."""
    binary, machine = EMULATORS[arch]
    guest = [
        binary, "-M", machine, *accelerator, "-m", "512",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-serial", "stdio", "-kernel", str(kernel),
        "-append", "console=ttyS0 console=ttyAMA0 panic=-1",
    ]  # fmt: skip
    with subprocess.Popen(
        command(*guest), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            console, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return False
    return b"Unable to mount root fs" in console


KVM = ("-accel", "kvm", "-cpu", "host")
EMULATORS = {
    "amd64": ("qemu-system-x86_64", "q35,sata=off"),
    "arm64": ("qemu-system-aarch64", "virt"),
}
