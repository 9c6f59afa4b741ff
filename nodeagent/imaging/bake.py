"""``nodeagent image bake``: an image with everything inside, from a stock one, which is only read.

The root file system is unpacked into a folder, filled there by its own package tools and the
agent's own steps (``build``, in namespaces of its own), and made anew; the boot partition is
then seeded. The result appears under its name when it is whole, or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodeagent.config import settings as config
from nodeagent.errors import (
    TABLE,
    AlreadyExists,
    ImageError,
    NodeAgentError,
    NoRoom,
    Refused,
    ToolMissing,
    Usage,
)
from nodeagent.host.host import Host
from nodeagent.imaging import (
    build,
    fleet_files,
    inspect,
    packages,
    patch,
    road,
    rootfs,
    tools,
    unxz,
)
from nodeagent.imaging.boot_partition import ImageFile
from nodeagent.imaging.customise import NOTHING, Custom
from nodeagent.imaging.progress import Progress, Tell
from nodeagent.imaging.seed import Wish, seed
from nodeagent.trust.fleet_file import NAME as CARD

PROGRAMS = ("unshare", "fuse2fs", "sfdisk", "mke2fs", "debugfs", "e2fsck", "tar", "bwrap",
            road.PROGRAM, "find", "prlimit", "mount", "umount", "mdir", "mcopy")  # fmt: skip
# bwrap looks at its child in /proc, by a number of its own namespace.
APART = ("--mount", "--pid", "--mount-proc", "--net", "--fork", "--kill-child")
AS_USER = ("--user", "--map-root-user", "--map-auto")  # subuid(5), by newuidmap(1)
GIB = 1024**3
GROWTH = GIB  # what the packages take, unpacked
GROWTH_IMAGES = 3 * GIB


@dataclass(frozen=True)
class Bake:
    """``card`` is what is seeded onto the boot partition; None makes an image of no fleet, to be
    seeded later. ``split`` makes two, NAME-control-plane.img and NAME-worker.img."""

    deb: Path
    card: Wish | None = None
    settings: Path | None = None
    split: bool = False
    images: bool = False
    custom: Custom = NOTHING


def wish(
    *,
    deb: Path,
    fleet_file: Path | None,
    settings: Path | None,
    split: bool,
    with_images: bool,
    role: str | None,
    expected_nodes: int | None,
    hostname: str | None,
    custom: Custom,
) -> Bake:
    """From the words of the command line. Raises Refused where they do not fit together."""
    if fleet_file is None and (role or expected_nodes or hostname or split):
        raise Usage(
            "An image of no fleet has no role, name or number of nodes either.",
            "Name the fleet with --fleet, or say the others when you seed the image.",
        )
    if split and role:
        raise Usage("Of split images each has its role.", "Leave --role or --split out.")
    card = None
    if fleet_file is not None:
        card = Wish(
            fleet=fleet_file, role=role, expected_nodes=expected_nodes, settings=settings,
            install=False, node_name=hostname,
        )  # fmt: skip
        fleet_files.read(fleet_file).card_file(role)  # wrong ones are known before the work
    return Bake(deb, card, settings, split, with_images, custom)


def bake(image: Path, out: Path, wish: Bake, tell: Tell) -> list[str]:
    """Bake ``image`` into ``out``; lines for people.

    Raises ImageError, FleetError, ConfigError, Refused, ToolMissing, CommandFailed, FetchFailed,
    Blocked, OSError. Where it raises, there is no ``out``.
    """
    targets = outputs(out, wish)
    _check_wish(image, targets, wish)
    tools.need(*PROGRAMS)
    tools.need_sandbox()
    with tempfile.TemporaryDirectory(prefix=".nodeagent-", dir=out.parent) as name:
        folder = Path(name).resolve()
        source = _unpacked(image, folder / "source.img", tell)
        architecture = _look(source)
        deb = folder / wish.deb.name
        (data,) = packages.read(None, wish.deb, architecture).values()
        deb.write_bytes(data)
        _check_room(out.parent, source, wish)
        baked = folder / "baked.img"
        job = build.Job(
            source, baked, folder, deb, _settings(folder, wish), wish.images, wish.custom
        )
        _work(job, tell)
        made = []
        for number, (target, card) in enumerate(targets.items(), start=1):
            tell(Progress(f"finishing {target.name}"))
            fresh = folder / target.name
            _give(baked, fresh, last=number == len(targets))
            if card is not None:
                seed(fresh, card)
            if card is not None or wish.custom.psk:
                fresh.chmod(0o600)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            made.append((fresh, target))
        for fresh, target in made:
            fresh.rename(target)
    return [f"wrote {target} ({target.stat().st_size // 1024**2} MiB)" for target in targets]


def outputs(out: Path, wish: Bake) -> dict[Path, Wish | None]:
    """The images to make, and how each is seeded."""
    if not wish.split or wish.card is None:
        return {out: wish.card}
    return {
        out.with_name(f"{out.stem}-control-plane{out.suffix}"): wish.card,
        out.with_name(f"{out.stem}-worker{out.suffix}"): replace(wish.card, role="worker"),
    }


def _check_wish(image: Path, targets: dict[Path, Wish | None], wish: Bake) -> None:
    """Raises Refused for what would lose something or cannot be."""
    for target in targets:
        if target.exists():
            raise AlreadyExists(f"{target} is already there.", "Choose another name, or remove it.")
    if image.with_name(image.name + patch.SUFFIX).exists():
        raise Refused(
            f"An interrupted `image seed` left {image} half changed.",
            "Run that command again, or take a fresh image.",
        )
    if not sys.platform.startswith("linux"):
        raise ToolMissing("An image can be baked on Linux only.", "Use `nodeagent image seed`.")


def _unpacked(image: Path, target: Path, tell: Tell) -> Path:
    """The image itself, or what is in it. Raises ImageError where that is cut short or says to be
    another size than it is, NoRoom before anything is unpacked."""
    if not unxz.is_packed(image):
        return image
    size, free = unxz.size(image), shutil.disk_usage(target.parent).free
    if size > free:
        raise NoRoom(
            f"{target.parent.parent} has no room: {image} holds {size / GIB:.1f} GiB unpacked,"
            f" {free / GIB:.1f} GiB are free.",
            "Make room, or name a place with more by --out.",
        )
    length = image.stat().st_size
    with target.open("wb") as out:
        for data, done in unxz.pieces(image, size):
            if any(data):
                out.write(data)
            else:
                out.seek(len(data), os.SEEK_CUR)
            tell(Progress(f"unpacking {image.name}", done, length))
        out.truncate(out.tell())
    return target


def _look(image: Path) -> str | None:
    """The architecture. Raises ImageError, Refused, ToolMissing, CommandFailed."""
    boot = ImageFile(image)
    names = boot.names()
    if CARD in names:
        raise Refused(
            "This image is a fleet's already: it was seeded or baked before.", rootfs.FRESH
        )
    found = inspect.check(boot, names)
    rootfs.find(image)
    return found


def _check_room(folder: Path, image: Path, wish: Bake) -> None:
    """The unpacked tree and the images made from it lie there side by side. Raises Refused."""
    whole = rootfs.find(image).used + (GROWTH_IMAGES if wish.images else GROWTH)
    needed = whole * (3 if wish.split else 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"{folder} has no room: about {needed / GIB:.1f} GiB are needed meanwhile,"
            f" {free / GIB:.1f} GiB are free.",
            "Make room, or name a place with more by --out.",
        )


def _settings(folder: Path, wish: Bake) -> Path:
    """Where the build process finds the settings. Raises ConfigError."""
    place = folder / "settings"
    place.mkdir()
    if wish.settings is not None:
        # As on a boot partition, so that the errors name a file of the user's.
        Host(place).write(config.BOOT_FILES[0], wish.settings.read_bytes())
    config.load(Host(place))
    return place


def _work(job: build.Job, tell: Tell) -> None:
    """Run the build process. Raises what it raised."""
    argv = (sys.executable, "-P", "-m", "nodeagent.imaging.build")
    with _apart(argv, job.folder) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(build.pack(job))
        process.stdin.close()
        for line in process.stdout:
            said = json.loads(line)
            if "stage" in said:
                tell(Progress(**said))
            elif "failed" in said:
                raise _error(said)
            else:
                return
        words = process.stderr.read()
    raise tools.failed(argv, process.returncode, words)


@contextlib.contextmanager
def _apart(argv: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in namespaces of its own, from where one road leads out. It says a line when it is
    there, and begins when it is answered. Raises ToolMissing, CommandFailed."""
    line = ["unshare", *APART, *(() if os.geteuid() == 0 else AS_USER), *argv]
    process = subprocess.Popen(
        line, env=tools.environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process, _ended(process, folder):
        assert process.stdout and process.stderr
        if not process.stdout.readline():
            raise tools.failed(line, process.wait(), process.stderr.read())
        (child,) = _children(process)
        with road.opened(child):
            yield process


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes], folder: Path) -> Iterator[None]:
    """Where anything goes wrong here, also by Ctrl-C, the work ends, and what it unpacked goes:
    of that a user owns nothing outside the namespace."""
    try:
        yield
    except BaseException:
        _kill(process)
        if os.geteuid() != 0:
            tools.run("unshare", *AS_USER, "rm", "-rf", str(folder / "root"))
        raise


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End unshare's child, the first process of its namespace: the kernel ends all others of it
    before that one counts as ended (pid_namespaces(7)), for which unshare waits."""
    pids = _children(process)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not pids:
        process.kill()
    process.wait()


def _children(process: subprocess.Popen[bytes]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def _error(said: dict[str, str]) -> NodeAgentError:
    return TABLE.get(said["failed"], ImageError)(said["reason"], said["remedy"])


def _give(baked: Path, target: Path, last: bool) -> None:
    if last:
        baked.rename(target)
        return
    argv = ["cp", "--sparse=always", "--reflink=auto", str(baked), str(target)]
    tools.run(*argv, seconds=rootfs.LONG)
