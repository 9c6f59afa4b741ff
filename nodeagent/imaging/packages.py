"""The .deb files that go on a card: the agent's, and what it depends on where there is no network.

A package's name, version and architecture are read from its file name, as dpkg-name(1) makes it:
what is inside is packed differently by each distribution.
"""

from __future__ import annotations

import re
from pathlib import Path

from nodeagent.errors import ImageError, Usage

FOLDER = "nodeagent"  # on the boot partition
_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_]+)_(?P<arch>[a-z0-9-]+)\.deb")
_HEADER = 60  # bytes before each member of an archive (deb(5), ar(5))


def read(folder: Path | None, deb: Path | None, architecture: str | None) -> dict[str, bytes]:
    """Names on the boot partition and contents. ``architecture`` is the image's, where it is known.

    Raises Refused where the agent is not among them or one is for another architecture,
    ImageError for a damaged one, OSError.
    """
    files = sorted(folder.glob("*.deb")) if folder else []
    if deb is not None:
        files = [path for path in files if not path.name.startswith("nodeagent_")] + [deb]
    agents = [path for path in files if path.name.startswith("nodeagent_")]
    if len(agents) != 1:
        found = ", ".join(path.name for path in agents) or "none"
        raise Usage(
            f"One package of nodeagent is needed to install it, and there is {found}.",
            "Name it with --deb FILE. If the image has the agent already, say --no-install.",
        )
    return {f"{FOLDER}/{path.name}": _read(path, architecture) for path in files}


def _read(path: Path, architecture: str | None) -> bytes:
    named = _NAME.fullmatch(path.name.replace("%3a", ":"))
    if named is None:
        raise Usage(
            f"{path} is not called as packages are, NAME_VERSION_ARCHITECTURE.deb.",
            "Give it back the name that it was downloaded with.",
        )
    if architecture is not None and named["arch"] not in ("all", architecture):
        raise Usage(
            f"{path.name} is for {named['arch']}, and the image is {architecture}.",
            f"Fetch the packages on a system like the image's, or for {architecture}.",
        )
    data = path.read_bytes()
    if not _is_whole(data):
        raise ImageError(f"{path} is no Debian package, or it is cut short.", "Fetch it again.")
    return data


def _is_whole(data: bytes) -> bool:
    """The archive's members are all there, the first being Debian's (deb(5))."""
    if not data.startswith(b"!<arch>\ndebian-binary"):
        return False
    at, members = 8, 0
    while at < len(data):
        size = data[at + 48 : at + 58].strip()
        if not size.isdigit():
            return False
        at += _HEADER + int(size)
        members += 1
        if at > len(data):
            return False
        at += at % 2
    return members >= 3
