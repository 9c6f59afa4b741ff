"""A board made of a card, and of Debian's packages of one release, unpacked and not installed.

Real are systemd's generators, cloud-init with its generator and ds-identify, a shell, dpkg-query
and our scripts. Doubles are systemctl, which writes down how it is called, systemd-detect-virt,
which says what it does on a Pi, udevadm and sync, which do nothing, and for Ubuntu blkid and mount,
which find the card's folder as the partition system-boot. What comes before systemd is the model of
tests/unit/imaging/pi_os.py. Everything runs in namespaces of its own, without /sys, without
devices, and without the right to load modules.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.lab import toolbox
from tests.support import namespaces
from tests.unit.imaging import pi_os

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build/systems"
RELEASES = ("bookworm", "trixie", "sid")
PROGRAMS = ("cloud-init", "systemd", "systemd-zram-generator")
PACKAGES = (
    *PROGRAMS, "base-files", "bash", "coreutils", "dash", "debianutils", "diffutils", "dpkg",
    "findutils", "grep", "gzip", "hostname", "init-system-helpers", "iproute2", "libc-bin", "login",
    "mawk", "mount", "netplan.io", "openssh-client", "passwd", "sed", "sudo", "tar", "util-linux",
)  # fmt: skip
MERGED = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s usr/$d "$1/$d"; done'
ENTER = """set -e
cd "$1"
mount -t overlay overlay -o "lowerdir=$2,upperdir=upper,workdir=work" root
mount --bind card root/boot/firmware
mount --bind run root/run
mount -t tmpfs tmpfs root/dev
for name in null zero full random urandom; do
    : >root/dev/$name
    mount --bind /dev/$name root/dev/$name
done
mount -t proc proc root/proc
mount --bind root/proc/sys root/proc/sys
mount -o remount,bind,ro root/proc/sys
mount --bind cmdline root/proc/cmdline
mount -t tmpfs tmpfs root/sys
mkdir -p root/sys/class/net
shift 2
exec setpriv --bounding-set=-sys_boot,-sys_module,-sys_time chroot root "$@"
"""
SEED = CHECKOUT / "image/lab/files/etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg"
# As ubuntu-raspi-settings has it.
LABEL = "datasource_list: [NoCloud, None]\ndatasource: {NoCloud: {fs_label: system-boot}}\n"
DOUBLES = {
    "systemctl": 'echo "$STAGE: $*" >>/var/calls',
    "systemd-detect-virt": "echo none; exit 1",
    "udevadm": "",
    "sync": "",  # the real one waits for all of this machine
}
DISK = {
    "blkid": """case "$*" in
*export*) printf 'DEVNAME=/dev/mmcblk0p1\\nLABEL=system-boot\\nTYPE=vfat\\n\\n' ;;
*TYPE=vfat*|*LABEL=system-boot*) echo /dev/mmcblk0p1 ;;
*) exit 2 ;;
esac""",
    "mount": """case "$*" in
*/dev/mmcblk0p1*) for last; do :; done; exec /usr/bin/mount --bind /boot/firmware "$last" ;;
*) exec /usr/bin/mount "$@" ;;
esac""",
}
FAILED = "cloud-init failed"
PATH = "/usr/local/bin:/usr/sbin:/usr/bin"
GENERATORS = "/usr/lib/systemd/system-generators"
FSTAB = """\
PARTUUID=6e6f6465-01 /boot/firmware vfat defaults 0 2
PARTUUID=6e6f6465-02 / ext4 defaults 0 1
"""
FILES = {
    "etc/fstab": FSTAB,
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\nadm:x:4:\n",
    # What is put on the card here is no package; it counts as installed.
    "var/lib/dpkg/status": "Package: nodeagent\nStatus: install ok installed\n"
    "Version: 0\nArchitecture: all\n",
}
UNITS, NAME = "etc/systemd/system", "nodeagent-install.service"


def tree(release: str) -> Path:
    """The unpacked packages of a release, made once. Raises LabError."""
    place = BUILD / release
    made, packages = place / "made", " ".join(PACKAGES)
    if not made.exists() or made.read_text() != packages:
        BUILD.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        # A mirror may keep a sid that is older than it says to be valid; it is signed all the same.
        valid = 'Acquire::Check-Valid-Until "false"'
        options = [f"--setup-hook={MERGED}", f"--aptopt={valid}"]
        toolbox.bootstrap(
            place, PACKAGES, "extract", BUILD / f"{release}.log", options, suite=release
        )
        # Else each start of cloud-init would compile it anew.
        compiling = ["sh", "-c", "python3 -m compileall -q /usr/lib/python3*"]
        subprocess.run(namespaces.apart("chroot", str(place), *compiling), check=True)
        made.write_text(packages)
    return place


def version(release: str, package: str) -> str:
    """As its changelog says it."""
    doc = tree(release) / "usr/share/doc" / package / "changelog.Debian.gz"
    return gzip.decompress(doc.read_bytes()).decode().split("(", 1)[1].split(")", 1)[0]


class Board:
    """``where``: an empty folder that becomes its disk; ``card``: in it, the boot partition's.
    ``settings``: cloud-init's on this system, empty where it has no cloud-init."""

    def __init__(self, where: Path, release: str, settings: str) -> None:
        self.where, self.release, self.settings = where, release, settings
        self.card, self.upper, self.run = where / "card", where / "upper", where / "run"
        for name in ("work", "root", "run"):
            (where / name).mkdir(parents=True)
        for name in ("boot/firmware", "dev", "proc", "run", "sys", "tmp", "root", "var/lib/dpkg",
                     "etc/systemd/system", "etc/cloud/cloud.cfg.d", "usr/local/bin"):  # fmt: skip
            (self.upper / name).mkdir(parents=True)
        for name, text in FILES.items():
            (self.upper / name).write_text(text)
        # As ca-certificates makes it when it is installed; requests cannot be imported without it.
        certificates = sorted((tree(release) / "usr/share/ca-certificates/mozilla").glob("*.crt"))
        made = self.upper / "etc/ssl/certs/ca-certificates.crt"
        made.parent.mkdir(parents=True)
        made.write_text("".join(path.read_text() for path in certificates))
        (self.upper / "etc/cloud/cloud.cfg.d/99_board.cfg").write_text(settings)
        doubles = DOUBLES | (DISK if settings == LABEL else {})
        for name, does in doubles.items():
            path = self.upper / "usr/local/bin" / name
            path.write_text(f"#!/bin/sh\n{does}\n")
            path.chmod(0o755)

    @property
    def line(self) -> Path:
        """The cmdline.txt that its firmware reads."""
        new = self.card / "current/cmdline.txt"
        return new if new.exists() else self.card / "cmdline.txt"

    def call(self, stage: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the system."""
        line = (self.where / "cmdline").read_text().strip()
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "STAGE": stage}
        environment["SYSTEMD_PROC_CMDLINE"] = line
        # In a process namespace of its own systemd 257 takes itself for a container's, where its
        # generators leave swap out.
        kinds = ("mnt", "net", "uts", *([] if stage == "generator" else ["pid"]))
        command = namespaces.apart(
            "sh", "-c", ENTER, "board", str(self.where), str(tree(self.release)), *argv, kinds=kinds
        )
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, timeout=1200
        )
        with (self.where / "log").open("a") as log:
            print(f"## {stage}: {argv} -> {done.returncode}\n{done.stdout}{done.stderr}", file=log)
        return done

    def generate(self, *names: str) -> Path:
        """What these generators make: the folder that holds normal, early and late."""
        out = self.run / "systemd"
        shutil.rmtree(out, ignore_errors=True)
        folders = [f"/run/systemd/{name}" for name in ("normal", "early", "late")]
        for name in ("normal", "early", "late"):
            (out / name).mkdir(parents=True)
        script = f'for name in {" ".join(names)}; do {GENERATORS}/$name "$@"; done'
        self.call("generator", "sh", "-c", script, "generators", *folders)
        return out

    def boot(self) -> str:
        """What one boot came to, in few words."""
        shutil.rmtree(self.run)
        self.run.mkdir()
        for path in self.card.rglob("*"):  # as on FAT
            path.chmod(0o755)
        (self.upper / "var/calls").write_text("")
        line = self.line.read_bytes().split(b"\n")[0]
        (self.where / "cmdline").write_bytes(b"from=firmware " + line)
        early = pi_os.before_systemd(self.card) if (self.card / "issue.txt").exists() else ""
        if early:
            return early
        names = ["systemd-run-generator", *(["cloud-init-generator"] if self.settings else [])]
        units = self.generate(*names)
        asked = units / "normal/kernel-command-line.service"
        if asked.exists():
            return self._asked(asked.read_text())
        wanted = {path.name for path in units.glob("*/*.wants/*")}  # links that point nowhere here
        found = [self._cloud_init()] if "cloud-init.target" in wanted else []
        return ", ".join(filter(None, [*found, self._install()])) or "usual"

    def _asked(self, unit: str) -> str:
        """systemd.run=: each ExecStart in turn, then what the unit says."""
        commands = re.findall("^ExecStart=(.*)$", unit, re.M)
        wanted = next((c for c in commands if self.call("systemd.run=", c).returncode), "")
        action = re.findall(f"^{'Failure' if wanted else 'Success'}Action=(.*)$", unit, re.M)
        names = ", ".join(f"{wanted} failed" if c == wanted else Path(c).name for c in commands)
        return f"{names} by systemd.run=, then {''.join(action)}"

    def _cloud_init(self) -> str:
        """Its stages before the network and with it; in which of them it ran the hook."""
        script = "cloud-init init --local && STAGE=network cloud-init init"
        if self.call("local", "sh", "-c", script).returncode:
            return FAILED
        calls = (self.upper / "var/calls").read_text()
        started = re.findall("^([a-z]+): start .*nodeagent-install.service$", calls, re.M)
        return f"first-boot.sh by cloud-init ({started[0]} stage)" if started else ""

    def _install(self) -> str:
        """The service, where something wants it or has started it."""
        done = self.upper / "var/lib/nodeagent-install/done"
        unit = self.upper / UNITS / NAME
        wanted = (self.upper / UNITS / "multi-user.target.wants" / NAME).is_symlink()
        if not unit.exists() or done.exists():
            return ""
        if not wanted:
            return "the service is not wanted"
        command = re.findall("^ExecStart=(.*)$", unit.read_text(), re.M)[0]
        self.call("service", *command.split())
        return "installed" if done.exists() else "not installed"
