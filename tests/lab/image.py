"""The lab's base image, from the recipe in image/lab.

Two layers, each remade only when what it is made of changes: a root file system from Debian
packages (minutes; network), and on top of it the agent's .deb, the mirror's apt sources and the
lab's CA, made into a disk (seconds).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import namespaces

from . import disk, toolbox
from .mirror import debian, keys
from .mirror.store import Store
from .place import RECIPE, LabError, cache, say

# The cloud kernel has no drivers of a Pi, which is one of the arm64 machines here.
KERNELS = {"amd64": "linux-image-cloud-amd64", "arm64": "linux-image-arm64"}
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
IN_CHROOT = 'mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; exec chroot "$@"'


@dataclass(frozen=True)
class Image:
    """A built image: what is flashed, and what the firmware loads from it."""

    disk: Path
    kernel: Path
    initrd: Path


def _hash(*parts: str | bytes) -> str:
    one = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        one.update(len(data).to_bytes(8, "big") + data)
    return one.hexdigest()[:16]


def _recipe(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [str(path.relative_to(RECIPE)) for path in files]
    return _hash(*names, *(path.read_bytes() for path in files))


def packages() -> list[str]:
    """The names in packages.list."""
    lines = (RECIPE / "packages.list").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@contextmanager
def _folder(arch: str) -> Iterator[Path]:
    """The image folder of ``arch``, one maker at a time; leftovers of a killed one are gone."""
    folder = cache() / "image" / arch
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in ("work", "new"):
            shutil.rmtree(folder / left, ignore_errors=True)
        yield folder


def ssh_key() -> Path:
    """The lab's key for user pi, made once."""
    key = cache() / "ssh" / "id_ed25519"
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = key.with_name("new")
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nodeagent-lab", "-f"]
        subprocess.run([*argv, str(fresh)], check=True)
        fresh.with_name("new.pub").rename(key.with_suffix(".pub"))
        fresh.rename(key)
    return key


def _base(arch: str, folder: Path) -> Path:
    trees = [tree for tree in (RECIPE / "files", RECIPE / f"files-{arch}") if tree.exists()]
    options = [
        *toolbox.docs_option(),
        f"--architectures={arch}",
        "--dpkgopt=force-confold",
        '--aptopt=APT::Install-Recommends "false"',
        # Before the packages: their scripts read it (initramfs), dpkg keeps it (force-confold).
        *(f"--essential-hook=cp -rT --no-preserve=ownership '{tree}' \"$1\"" for tree in trees),
        f"--customize-hook=sh '{RECIPE}/customize.sh' \"$1\"",
    ]
    wanted = [*packages(), KERNELS[arch]]
    customize = (RECIPE / "customize.sh").read_bytes()
    # Without the checkout's own path, so that any checkout finds what another one made.
    plain = [option.replace(str(RECIPE), "") for option in options]
    key = _hash(*plain, *wanted, *map(_recipe, trees), customize)
    tar = folder / f"base-{key}.tar"
    if tar.exists():
        return tar
    say(f"making the base root file system for {arch}, once per recipe")
    toolbox.run_foreign(arch)
    fresh = folder / "new.tar"
    toolbox.bootstrap(fresh, wanted, "apt", folder / "base.log", options)
    for old in folder.glob("base-*.tar"):
        old.unlink()
    fresh.rename(tar)
    return tar


def _chroot(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    command = namespaces.apart("sh", "-ec", IN_CHROOT, "sh", str(root), *argv)
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _sources(root: Path, mirror: str, address: str, keyring: str) -> None:
    for old in ("sources.list", "sources.list.d/0000sources.list"):
        (root / "etc/apt" / old).unlink(missing_ok=True)
    text = f"Types: deb\nURIs: {address}\nSuites: {debian.SUITE}\nComponents: main\n"
    (root / "etc/apt/sources.list.d/debian.sources").write_text(text + f"Signed-By: {keyring}\n")
    if mirror == "built":
        # The lab's part of Debian has one language and no by-hash.
        (root / "etc/apt/apt.conf.d/90lab").write_text('Acquire::Languages "none";\n')


def _settle(root: Path, store: Store, mirror: str) -> None:
    """Where packages come from and whom TLS believes."""
    if mirror == "upstream":
        _sources(root, mirror, debian.mirror_address(), debian.KEYRING)
        return
    key = keys.SigningKey(store, "debian")
    key.ensure()
    shutil.copyfile(key.binary, root / "usr/share/keyrings/nodeagent-lab.gpg")
    address = f"http://{keys.HOST}/debian"
    _sources(root, mirror, address, "/usr/share/keyrings/nodeagent-lab.gpg")
    local = root / "usr/local/share/ca-certificates/nodeagent-lab.crt"
    shutil.copyfile(keys.tls(store) / "ca.crt", local)
    done = _chroot(root, "update-ca-certificates")
    if done.returncode:
        raise LabError(f"The lab's CA could not be installed in the image: {done.stderr}")


def _install(root: Path, deb: Path) -> None:
    """The agent's package, as a user would install it on an image."""
    shutil.copyfile(deb, root / "tmp" / "agent.deb")
    done = _chroot(root, "dpkg", "--install", "/tmp/agent.deb")
    (root / "tmp" / "agent.deb").unlink()
    if done.returncode:
        raise LabError(
            f"{deb.name} could not be installed in the image: {done.stderr.strip()[-800:]} "
            "Where it depends on a new package, name that in image/lab/packages.list."
        )


def _boot_partition(folder: Path, arch: str) -> Path:
    boot = folder / "boot"
    boot.mkdir()
    known = {
        "@CONSOLE@": CONSOLES[arch],
        "@DISK@": disk.IDENTITY,
        "@SSH_KEY@": ssh_key().with_suffix(".pub").read_text().strip(),
    }
    for template in sorted((RECIPE / "firmware").iterdir()):
        text = template.read_text()
        for name, value in known.items():
            text = text.replace(name, value)
        (boot / template.name).write_text(text)
    return boot


def _fstab(root: Path) -> None:
    (root / "etc/fstab").write_text(
        "proc            /proc           proc    defaults          0       0\n"
        f"PARTUUID={disk.IDENTITY}-01  /boot/firmware  vfat    defaults          0       2\n"
        f"PARTUUID={disk.IDENTITY}-02  /               ext4    defaults,noatime  0       1\n"
    )


def build(arch: str, mirror: str, deb: Path | None) -> Image:
    """The image with ``deb`` baked in; without, the plain one."""
    store = Store(arch)
    with _folder(arch) as folder:
        tar = _base(arch, folder)
        # How the layers are put together is part of it, too.
        made_of: list[str | bytes] = [tar.name, mirror, deb.read_bytes() if deb else b""]
        made_of += [Path(one).read_bytes() for one in (__file__, disk.__file__)]
        made_of.append(_recipe(RECIPE / "firmware"))
        if mirror == "built":
            key = keys.SigningKey(store, "debian")
            made_of += [key.fingerprint, (keys.tls(store) / "ca.crt").read_bytes()]
        made_of.append(ssh_key().with_suffix(".pub").read_bytes())
        kind = f"{mirror}-{'agent' if deb else 'plain'}"
        place, stamp = folder / kind, folder / kind / "made-of"
        image = Image(place / "disk.img", place / "vmlinuz", place / "initrd.img")
        if stamp.exists() and stamp.read_text() == _hash(*made_of):
            return image
        say(f"making the image {kind} for {arch}")
        work, fresh = folder / "work", folder / "new"
        for one in (work, fresh):
            one.mkdir()
        # Capabilities of programs (ping's) are extended attributes.
        tar_x = ["tar", "-x", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
        subprocess.run([*tar_x, "-f", tar, "-C", work], check=True)
        _settle(work, store, mirror)
        _fstab(work)
        if deb:
            _install(work, deb)
        # Else the first boot would make the dynamic linker's and the journal's caches again.
        _chroot(work, "/usr/lib/systemd/systemd-update-done")
        boot = _boot_partition(fresh, arch)
        for name in ("vmlinuz", "initrd.img"):
            newest = sorted((work / "boot").glob(f"{name}-*"))[-1]
            shutil.copyfile(newest, fresh / name)
        for tree in (work / "usr/lib").glob("linux-image-*/broadcom/bcm2837-*.dtb"):
            shutil.copyfile(tree, fresh / tree.name)
        disk.make(fresh / "disk.img", work, boot)
        (fresh / "what.json").write_text(json.dumps({"deb": deb.name if deb else None}))
        (fresh / "made-of").write_text(_hash(*made_of))
        shutil.rmtree(place, ignore_errors=True)
        os.rename(fresh, place)
        shutil.rmtree(work)
        return image
