"""What the tests of images share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeagent.trust import fleet_file


def ar(*members: tuple[str, bytes]) -> bytes:
    """An archive as deb(5) has it."""
    out = b"!<arch>\n"
    for name, data in members:
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += head + data + b"\n" * (len(data) % 2)
    return out


DEB = ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", b"x" * 9000))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of fsync: what must be durable when is tested with the durable writer; here waiting
    for this machine's disk only takes time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """The file to keep of a new fleet."""
    kept, _ = fleet_file.make("home")
    path = tmp_path / "home.fleet"
    path.write_bytes(kept)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with packages, whose insides nobody looks into here."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in ("nodeagent_0.1.0_all.deb", "python3-click_8.1.3-2_all.deb",
                 "python3-yaml_6.0-3+b2_arm64.deb"):  # fmt: skip
        (folder / name).write_bytes(DEB)
    return folder
