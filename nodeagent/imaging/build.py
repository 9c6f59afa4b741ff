"""``python -m nodeagent.imaging.build``: the part of a bake that needs namespaces of its own.

``bake`` starts it by unshare(1), gives it the job on standard input, and reads from its standard
output one JSON value a line: progress, and at last whether it went well. The programs it runs find
nothing of this computer but the network and some harmless devices.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nodeagent import paths, steps
from nodeagent.cluster import kubeadm, kubeadm_state, packages
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import (
    Blocked,
    CommandFailed,
    ImageError,
    NeedsRoot,
    NodeAgentError,
    Refused,
    of_command,
)
from nodeagent.host.apt.actions import AptInstall, AptUpdate
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.imaging import chroot, customise, rootfs, tools
from nodeagent.imaging.customise import NOTHING, Custom
from nodeagent.imaging.progress import Progress, Tell
from nodeagent.steps import engine
from nodeagent.steps.card_in_board import CardInBoard

# All that a file has: hard links, holes, ACLs, capabilities (which are extended attributes).
TAR = ("tar", "--sparse", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner")
PIECE = 1024 * 1024
MOUNT_SECONDS = 60.0
ROOT_INODE = 2  # of ext4 (kernel docs, filesystems/ext4/special_inodes.rst)
UPDATE_DONE = "/usr/lib/systemd/systemd-update-done"
SNAPSHOTS = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
OPAQUE = "user.overlay.opaque"
NOBODY = "192.0.2.1"  # an address for documentation (RFC 5737): the list of images needs one


@dataclass(frozen=True)
class Job:
    """``folder`` is for what is needed meanwhile, ``target`` the image to make; ``deb`` the
    agent's package, ``settings`` a folder with etc/nodeagent/config.d."""

    source: Path
    target: Path
    folder: Path
    deb: Path
    settings: Path
    images: bool = False
    custom: Custom = NOTHING


def pack(job: Job) -> bytes:
    """The job as it goes to the build process."""
    return json.dumps(asdict(job), default=str).encode()


def unpack(data: bytes) -> Job:
    """The job that came."""
    said = json.loads(data)
    images, custom = said.pop("images"), Custom(**said.pop("custom"))
    paths = {name: Path(value) for name, value in said.items()}
    return Job(**paths, images=images, custom=custom)


def main() -> None:
    """One job from standard input."""

    def send(**what: Any) -> None:
        os.write(1, json.dumps(what).encode() + b"\n")

    def tell(progress: Progress) -> None:
        send(**asdict(progress))

    try:
        size = work(unpack(sys.stdin.buffer.read()), tell)
    except NodeAgentError as error:
        send(failed=error.code, reason=error.reason, remedy=error.remedy)
    except OSError as error:
        known = of_command(error, on_node=False)
        send(failed=known.code, reason=known.reason, remedy=known.remedy)
    else:
        send(finished=size)


def work(job: Job, tell: Tell) -> int:
    """Do the job; the size of the image. Raises NodeAgentError, OSError."""
    root = rootfs.find(job.source)
    tree = job.folder / "root"
    tree.mkdir(mode=0o755)
    try:
        with _mounted(job.source, root.offset, job.folder / "mount") as mounted:
            _check(Host(mounted))
            _copy(mounted, tree, root.used, tell)
        settings = config.load(Host(job.settings)).settings
        with chroot.entered(tree) as host:
            fill(host, job, settings, tell)
        tell(Progress("making the root file system"))
        return rootfs.build(job.source, root, tree, job.target)
    finally:
        shutil.rmtree(tree)


@contextlib.contextmanager
def _mounted(image: Path, offset: int, where: Path) -> Iterator[Path]:
    """The image's root file system, read-only, by fuse2fs(1): it keeps owners, links and
    attributes, which debugfs(8) does not when it copies files out."""
    where.mkdir()
    argv = ["fuse2fs", "-f", "-o", f"ro,offset={offset}", str(image), str(where)]
    with subprocess.Popen(
        argv, env=tools.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        end = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(where):
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise tools.failed(argv, process.wait(), process.communicate()[0])
            time.sleep(0.05)
        try:
            yield where
        finally:
            tools.run("umount", str(where))


def _check(host: Host) -> None:
    """Raises ImageError, Refused."""
    facts = Facts(host)
    try:
        list(steps.architecture.Architecture().plan(facts, Settings()))
    except Blocked as error:
        raise ImageError(error.reason, rootfs.FRESH) from error
    if facts.packages.get("nodeagent"):
        raise Refused(
            "This image has nodeagent already: it was baked before.",
            "Take a fresh image; or seed this one with `nodeagent image seed --no-install`.",
        )


def _copy(source: Path, target: Path, size: int, tell: Tell) -> None:
    """A whole tree with all that its files have."""
    stage, done = "unpacking the root file system", 0
    # Only root makes device nodes; at boot the kernel puts its own over them (devtmpfs).
    left_out = ["lost+found"] if chroot.is_root() else ["lost+found", "dev/*"]
    excluded = [f"--exclude=./{name}" for name in left_out]
    out = (*TAR, "-C", str(source), *excluded, "-cf", "-", ".")
    into = (*TAR, "-C", str(target), "--preserve-permissions", "-xf", "-")
    with (
        subprocess.Popen(out, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader,
        subprocess.Popen(into, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as writer,
    ):
        assert reader.stdout and writer.stdin and reader.stderr and writer.stderr
        with contextlib.suppress(BrokenPipeError):
            while piece := reader.stdout.read(PIECE):
                writer.stdin.write(piece)
                done += len(piece)
                tell(Progress(stage, min(done, size), size))
            writer.stdin.close()
        reader.stdout.close()
        said = writer.stderr.read(), reader.stderr.read()
    for process, argv, words in ((writer, into, said[0]), (reader, out, said[1])):
        if process.returncode:
            raise tools.failed(argv, process.returncode, words)
    if source.stat().st_ino != ROOT_INODE:
        _link(source, target)
    tell(Progress(stage, size, size))


def _link(source: Path, target: Path) -> None:
    """Make hard links in the copy that tar(1) could not see: the fuse2fs of Debian 13 (1.47.2)
    gives each name an inode number of its own. Names are of one file where all they have is
    equal."""
    alike: defaultdict[tuple[int, ...], list[Path]] = defaultdict(list)
    for folder, _, names in os.walk(source):
        for path in (Path(folder, name) for name in names):
            now = path.lstat()
            if stat.S_ISREG(now.st_mode) and now.st_nlink > 1:
                what = (now.st_nlink, now.st_size, now.st_mtime_ns, now.st_mode, now.st_uid,
                        now.st_gid)  # fmt: skip
                alike[what].append(target / path.relative_to(source))
    for (links, *_), left in alike.items():
        while left:
            first = left.pop(0)
            same = [path for path in left if filecmp.cmp(first, path, shallow=False)]
            for path in same[: links - 1]:
                left.remove(path)
                path.unlink()
                path.hardlink_to(first)


def fill(host: Host, job: Job, settings: Settings, tell: Tell) -> None:
    """The agent's package, then the agent's own steps, then images; nothing else is left behind.

    Raises NodeAgentError, OSError.
    """
    boot = host.names(paths.BOOT)
    tell(Progress("installing the agent"))
    deb = f"/run/{job.deb.name}"
    host.path(deb).write_bytes(job.deb.read_bytes())
    AptUpdate().do(host)
    AptInstall((deb,)).do(host)
    for step in steps.SEQUENCE:
        if step.on_bake:
            tell(Progress(step.title))
            engine.prepare(
                step, host, settings, lambda action: tell(Progress(action.show())),
                files_only=step.on_image,
            )  # fmt: skip
    customise.apply(host, job.custom)
    if job.images:
        with chroot.containerd(host, job.folder / "containerd.log"):
            _pull(host, settings, tell)
        if not chroot.is_root():
            _check_layers(host)
    host.call("apt-get", "clean")
    host.call("find", paths.APT_LISTS, "-type", "f", "-delete")
    if host.exists("/etc/.updated"):
        # Else the first boot would do again what the packages' scripts have done here.
        host.run(UPDATE_DONE)
    # The packages' scripts may have made a machine id.
    engine.prepare(CardInBoard(), host, settings, lambda action: None, files_only=True)
    if host.names(paths.BOOT) != boot:
        raise ImageError(
            "A package wrote to the boot partition's folder, and that would be lost.",
            "Take a newer image, which has that package's new version already.",
        )


def _pull(host: Host, settings: Settings, tell: Tell) -> None:
    """What both roles need. Raises CommandFailed, ImageError."""
    tested = packages.tested(settings)

    def told(done: int, total: int, image: str) -> None:
        tell(Progress("fetching container images", done, total))

    host.make_folder(kubeadm_state.FOLDER, 0o700)
    init = kubeadm.init_configuration(settings, tested, "node", NOBODY, slow=False)
    host.write(kubeadm.INIT_FILE, init, 0o600)
    try:
        for role in ("control-plane", "worker"):
            kubeadm.pull_images(host, settings, tested, role, told)
    except CommandFailed as error:
        raise CommandFailed(error.reason, "Check the network, and try again.") from error
    finally:
        host.remove(kubeadm.INIT_FILE)
        host.remove_empty(kubeadm_state.FOLDER)


def _check_layers(host: Host) -> None:
    """For a user who is not root, containerd marks a folder that hides those below it by another
    attribute, which on the board would hide nothing (kernel docs, overlayfs, "userxattr").
    Raises Refused."""
    for folder, _, _ in os.walk(host.path(SNAPSHOTS)):
        if OPAQUE in os.listxattr(folder):
            raise NeedsRoot(
                "One of the container images can be unpacked by root only.",
                "Run the command with sudo, or leave --with-images out.",
            )


if __name__ == "__main__":
    main()
