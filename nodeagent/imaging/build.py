"""``python -m nodeagent.imaging.build``: the part of a bake that needs namespaces of its own.

``bake`` starts it by unshare(1), gives it the job on standard input, and reads from its standard
output one JSON value a line: progress, and at last whether it went well. The image's programs find
nothing of this computer but a road to archives and some harmless devices; those that read the image
itself, not even the network.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from nodeagent import paths, steps
from nodeagent.cluster import kubeadm, kubeadm_config, kubeadm_state, names, packages
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
MOUNTED = "/mnt"  # in the sandbox
# It goes into the background when it has mounted (fuse2fs(1)), and ends with the sandbox.
FUSE = 'fuse2fs -o "$0" "$1" "$2" >&2 && shift 2 && exec "$@"'
ROOT_INODE = b"2"  # of ext4 (kernel docs, filesystems/ext4/special_inodes.rst)
# Files with several names; of each all that tells it from others, and the name.
LINKED = ("-type", "f", "-links", "+1", "-printf", "%n %s %T@ %m %U %G %P\\0")
# What tar(1) needs to give files all they had: owners, modes, capabilities, devices, marks of
# overlayfs.
UNPACKING = ("CHOWN", "FOWNER", "FSETID", "SETFCAP", "MKNOD", *rootfs.TRUSTED)
MORE_THAN_USED = 1024**3  # bytes: names and owners, which tar(1) writes at length
UPDATE_DONE = "/usr/lib/systemd/systemd-update-done"
SNAPSHOTS = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
OPAQUE = "user.overlay.opaque"
NOBODY = "192.0.2.1"  # an address for documentation (RFC 5737): the list of images needs one
NAMES = names.Names("api.internal", "node.internal")


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

    send(there=True)
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
        _copy(job.source, root, tree, tell)
        _check(Host(tree))
        settings = config.load(Host(job.settings)).settings
        with chroot.entered(tree) as host:
            fill(host, job, settings, tell)
        tell(Progress("making the root file system"))
        return rootfs.build(job.source, root, tree, job.target)
    finally:
        shutil.rmtree(tree)


@contextlib.contextmanager
def _reader(image: Path, root: rootfs.Root, *argv: str) -> Iterator[IO[bytes]]:
    """What a program says that finds the image's root file system, read-only, at MOUNTED: by
    fuse2fs(1), which keeps owners, links and attributes; debugfs(8) does not when it copies.

    Both are in one sandbox, in a namespace of users where what may mount there may nothing else,
    and no mount is seen outside. Raises ToolMissing, CommandFailed.
    """
    image = image.resolve()
    with contextlib.ExitStack() as stack:
        (told, telling), (going, go) = tools.pipe(stack), tools.pipe(stack)
        said = stack.enter_context(tempfile.TemporaryFile())
        fuse = ("sh", "-c", FUSE, f"ro,offset={root.offset}", str(image), MOUNTED)
        process = stack.enter_context(tools.start(
            (*fuse, *argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
            reads=[image], rights=("SYS_ADMIN",), seconds=rootfs.LONG, mounts=True,
            more=["--dev-bind", "/dev/fuse", "/dev/fuse", "--dir", MOUNTED,
                  "--unshare-user", "--info-fd", str(telling.fileno()),
                  "--userns-block-fd", str(going.fileno())],
            open_files=[telling.fileno(), going.fileno()],
        ))  # fmt: skip
        stack.callback(process.kill)
        telling.close()
        about = b""
        while not about.endswith(b"}\n") and (piece := told.read(PIECE)):
            about += piece
        if about:
            child = json.loads(about)["child-pid"]
            try:
                _same_users(child)
            except BaseException:
                os.kill(child, signal.SIGKILL)  # it waits for bwrap's word, and for nothing else
                raise
            go.write(b"x")
        assert process.stdout
        yield process.stdout
        process.stdout.close()
        if process.wait():
            said.seek(0)
            raise tools.failed(fuse, process.returncode, said.read())


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


def _same_users(pid: int) -> None:
    """Give a process in a new namespace of users the ones that there are here, by the same numbers
    (user_namespaces(7)): files keep their owners."""
    for name in ("uid_map", "gid_map"):
        here = (line.split() for line in Path(f"/proc/self/{name}").read_text().splitlines())
        same = "".join(f"{first} {first} {count}\n" for first, _, count in here)
        Path(f"/proc/{pid}/{name}").write_text(same)


def _copy(image: Path, root: rootfs.Root, target: Path, tell: Tell) -> None:
    """Unpack the image's root file system, with all that its files have."""
    stage, done = "unpacking the root file system", 0
    # Only root makes device nodes; at boot the kernel puts its own over them (devtmpfs).
    left_out = ["lost+found"] if chroot.is_root() else ["lost+found", "dev/*"]
    excluded = [f"--exclude=./{name}" for name in left_out]
    out = (*TAR, "-C", MOUNTED, *excluded, "-cf", "-", ".")
    into = (*TAR, "-C", str(target), "--preserve-permissions", "-xf", "-")
    with (
        tempfile.TemporaryFile() as said,
        _reader(image, root, *out) as reader,
        tools.start(
            into, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said,
            writes=[target], rights=UNPACKING, largest=root.size, seconds=rootfs.LONG,
        ) as writer,
    ):  # fmt: skip
        assert writer.stdin
        with contextlib.suppress(BrokenPipeError):
            while piece := reader.read(PIECE):
                done += len(piece)
                if done > root.used + MORE_THAN_USED:
                    raise ImageError(
                        "The root file system holds more than its own figures say.", rootfs.FRESH
                    )
                writer.stdin.write(piece)
                tell(Progress(stage, min(done, root.used), root.used))
            writer.stdin.close()
        if writer.wait():
            said.seek(0)
            raise tools.failed(into, writer.returncode, said.read(tools.MOST))
    with _reader(image, root, "find", MOUNTED, "-maxdepth", "0", "-printf", "%i") as reader:
        numbered = reader.read() == ROOT_INODE
    if not numbered:
        with _reader(image, root, "find", MOUNTED, *LINKED) as reader:
            _link(reader.read(tools.MOST), target)
    tell(Progress(stage, root.used, root.used))


def _link(listed: bytes, target: Path) -> None:
    """Make hard links in the copy that tar(1) could not see: the fuse2fs of Debian 13 (1.47.2)
    gives each name an inode number of its own. Names are of one file where all they have is
    equal. ``listed`` is what find(1) says with LINKED. Raises ImageError."""
    alike: defaultdict[tuple[bytes, ...], list[Path]] = defaultdict(list)
    target = target.resolve()
    for record in listed.split(b"\0")[:-1]:
        *what, name = record.split(b" ", 6)
        path = target / os.fsdecode(name)
        # Who lists them read a stranger's bytes, and this is outside of the sandbox.
        if not path.parent.resolve().is_relative_to(target) or not stat.S_ISREG(
            path.lstat().st_mode
        ):
            raise ImageError(f"{path.name} is not where the image says.", rootfs.FRESH)
        alike[tuple(what)].append(path)
    for (links, *_), left in alike.items():
        while left:
            first = left.pop(0)
            same = [path for path in left if filecmp.cmp(first, path, shallow=False)]
            for path in same[: int(links) - 1]:
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
    tested = packages.release(Facts(host), settings)

    def told(done: int, total: int, image: str) -> None:
        tell(Progress("fetching container images", done, total))

    host.make_folder(kubeadm_state.FOLDER, 0o700)
    init = kubeadm_config.init_configuration(settings, tested, "node", NOBODY, NAMES, slow=False)
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
