"""``nodeagent image manifest``: a list of images that Raspberry Pi Imager 2 opens.

For an image that is merely a file Imager offers no customisation, since it cannot know what kind
the image wants; in such a list ``init_format`` says it. The form is Imager's own: in
raspberrypi/rpi-imager doc/json-schema/os-list-schema.json, doc/schema-notes.md and
doc/os_customisation_formats.md.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from nodeagent.errors import ImageError, Usage
from nodeagent.host import durable
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.imaging import inspect, partition, seed, system, tools
from nodeagent.imaging.boot_partition import Boot, ImageFile
from nodeagent.trust import fleet_file, wire

# The tags of boards that can be nodes, and what the boards are called there.
DEVICES = {
    "pi5-64bit": ("Raspberry Pi 5", "Raspberry Pi 5, 500 and Compute Module 5"),
    "pi4-64bit": ("Raspberry Pi 4", "Raspberry Pi 4 Model B, 400 and Compute Module 4"),
    "pi3-64bit": ("Raspberry Pi 3", "Raspberry Pi 3 and Zero 2 W; as workers only"),
}
ICONS = "https://downloads.raspberrypi.com/imager/icons"
ICON = "icons/use_custom.png"  # one that Imager has inside
ARCHITECTURE = "armv8"
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Source:
    """What can be told of one image file. Sizes in bytes, hashes as SHA-256 in hexadecimal."""

    path: Path
    size: int
    sha256: str
    packed_size: int
    packed_sha256: str
    init_format: str
    unknown: str  # why Imager shall not customise it, as a sentence; else empty
    fleet: str
    date: str


def write(
    images: Sequence[Path],
    out: Path,
    base: str | None,
    icon: str | None,
    init_format: str | None = None,
) -> list[str]:
    """Write the list of ``images`` to ``out``; lines for people.

    ``base`` is the address of the folder where the images will be; without it, Imager takes them
    from this computer. ``init_format`` holds for images that show none of their own.
    Raises ImageError, Refused, CommandFailed, ToolMissing, OSError.
    """
    if base is not None and not base.startswith(("https://", "http://")):
        raise Usage(f"{base} is no address of a web server.", "It begins with https:// .")
    sources = [_told(examine(path), init_format) for path in images]
    entries = [entry(source, base, icon) for source in sources]
    text = json.dumps({"imager": {"devices": _devices()}, "os_list": entries}, indent=2) + "\n"
    durable.write(out, text.encode(), 0o644)
    lines = [
        f"{source.path.name}: {source.size} bytes, sha256 {source.sha256}, customised by"
        f" {source.init_format}{source.unknown and f': {source.unknown}'}"
        for source in sources
    ]
    hint = "Open it in Raspberry Pi Imager 2: App Options, Content Repository, Use custom file."
    return [*lines, f"wrote {out}. {hint}", *tools.notes()]


def _told(source: Source, init_format: str | None) -> Source:
    """The image with what the user says of it. Raises ImageError where the image says otherwise."""
    if init_format is None:
        return source
    if init_format != "none" and source.init_format not in ("none", init_format):
        raise ImageError(
            f"{source.path} is customised by {source.init_format}: customised by {init_format}, it"
            " may not start any more.",
            "Leave --init-format out, or say --init-format none.",
        )
    return replace(source, init_format=init_format, unknown="")


def entry(source: Source, base: str | None, icon: str | None) -> dict[str, object]:
    """One image as Imager's list has it."""
    url = (
        f"{base.rstrip('/')}/{quote(source.path.name)}" if base else source.path.resolve().as_uri()
    )
    name = source.path.name.split(".img")[0]
    return {
        "name": f"{name} (nodeagent, {source.fleet})",
        "description": f"Becomes a node of the fleet {source.fleet} by itself",
        "icon": icon or ICON,
        "url": url,
        "extract_size": source.size,
        "extract_sha256": source.sha256,
        "image_download_size": source.packed_size,
        "image_download_sha256": source.packed_sha256,
        "release_date": source.date,
        "init_format": source.init_format,
        "architecture": ARCHITECTURE,
        "devices": list(DEVICES),
    }


def _devices() -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "tags": [tag],
            "icon": f"{ICONS}/RPi_{name[-1]}.png",
            "description": description,
            "matching_type": "exclusive",
        }
        for tag, (name, description) in DEVICES.items()
    ]


def examine(path: Path) -> Source:
    """Read an image once, unpacking it on the way. Raises ImageError, CommandFailed, OSError."""
    with tempfile.TemporaryDirectory(prefix="nodeagent-") as folder:
        # A part of it is enough to look at, and the rest stays a hole.
        head = Path(folder) / path.name
        try:
            return _examine(path, head)
        except ImageError as error:
            raise ImageError(error.reason.replace(str(head), str(path)), error.remedy) from error


def _examine(path: Path, head: Path) -> Source:
    size, digest = _unpack(path, head)
    with path.open("rb") as file:
        packed = hashlib.file_digest(file, "sha256")
    boot = ImageFile(head)
    names = boot.names()
    inspect.check(boot, names)
    date = inspect.date(boot, names)
    fleet = _fleet(path, boot, names)
    with tempfile.TemporaryDirectory(prefix="nodeagent-") as folder:
        host = Host(Path(folder).resolve())
        seed.stage(boot, names, host, {})
        words = system.words_of_line(Facts(host))
        try:
            found = system.recognise(Facts(host), names, words)
            unknown = f"how this {found.name} is customised is not known."
        except ImageError as error:
            found, unknown = None, error.reason
    init_format = (
        "rpi-preseed" if "rpi-preseed.toml" in names else customised_by(found, words, date)
    )
    return Source(
        path=path,
        size=size,
        sha256=digest,
        packed_size=path.stat().st_size,
        packed_sha256=packed.hexdigest(),
        init_format=init_format,
        unknown=unknown if init_format == "none" else "",
        fleet=fleet,
        date=date or time.strftime("%Y-%m-%d", time.gmtime(path.stat().st_mtime)),
    )


def customised_by(found: system.System | None, words: Sequence[bytes], date: str | None) -> str:
    """How Imager must customise, by positive signs only: the wrong way, it leaves a word on the
    kernel command line with which the board powers off at every boot."""
    if found is None or found.why:
        return "none"
    if found.ways == (system.CLOUD_INIT,):
        return {"Raspberry Pi OS": "cloudinit-rpi", "Ubuntu": "cloudinit"}.get(found.name, "none")
    # Only Raspberry Pi OS corrects the path in that word, and newer ones without cloud-init are
    # customised by rpi-preseed, of which a fresh image shows no sign.
    old = date is not None and date < system.CLOUD_INIT_SINCE
    known = found.name == "Raspberry Pi OS" and (old or system.FIRSTBOOT in words)
    return "systemd" if known else "none"


def _fleet(path: Path, boot: Boot, names: Sequence[str]) -> str:
    remedy = f"First make it a fleet's: nodeagent image seed {path} --fleet NAME.fleet"
    if fleet_file.NAME not in names:
        raise ImageError(
            f"{path} belongs to no fleet, so a board would not become a node by it.", remedy
        )
    try:
        return fleet_file.parse(boot.read(fleet_file.NAME)).name
    except wire.Malformed as error:
        raise ImageError(
            f"The {fleet_file.NAME} on it is damaged: {error}.", "Seed a fresh image."
        ) from error


def _unpack(path: Path, head: Path) -> tuple[int, str]:
    """The size and hash of the unpacked image; ``head`` becomes its partition table and boot
    partition, at the image's full length."""
    digest, size, kept = hashlib.sha256(), 0, 0
    with _opened(path) as file, head.open("wb") as copy:
        while data := _read(path, file):
            digest.update(data)
            if size <= kept or size < 2 * CHUNK:
                copy.write(data)
            size += len(data)
            if not kept and size >= 2 * CHUNK:
                copy.flush()
                kept = partition.end_of_boot(head)
        copy.truncate(size)
    return size, digest.hexdigest()


Opened = lzma.LZMAFile | gzip.GzipFile | BinaryIO


def _opened(path: Path) -> Opened:
    if path.suffix == ".xz":
        return lzma.open(path)
    if path.suffix == ".gz":
        return gzip.open(path)
    return path.open("rb")


def _read(path: Path, file: Opened) -> bytes:
    try:
        return file.read(CHUNK)
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise ImageError(f"{path} is damaged or cut short: {error}.", partition.AGAIN) from error
