"""The census's own tool: it finds every form of a key wherever it lies, and nothing else."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.trust import fleet_file, pki
from tests.support import keytraces
from tests.support.tools import tool

KEY = pki.new_key()
PEM = pki.key_pem(KEY).encode()
SECRET = {"key": keytraces.scalar(PEM)}
DER = base64.b64decode(b"".join(PEM.splitlines()[1:-1]))

FORMS: dict[str, Callable[[], bytes]] = {
    "PEM": lambda: PEM,
    "PEM in JSON": lambda: PEM.replace(b"\n", b"\\n"),
    "the first line of PEM": lambda: PEM.splitlines()[1],
    "the second line of PEM": lambda: PEM.splitlines()[2],
    "DER": lambda: DER,
    "base64, shifted by one": lambda: base64.b64encode(b"x" + DER),
    "base64, shifted by two": lambda: base64.b64encode(b"xy" + DER),
    "hexadecimal": lambda: DER.hex().encode(),
    "capital hexadecimal": lambda: DER.hex().upper().encode(),
    "the number alone": lambda: SECRET["key"],
    "the last third of the number": lambda: SECRET["key"][-11:],
}


@pytest.mark.parametrize("what", FORMS)
@pytest.mark.parametrize("place", [0, 7, keytraces.CHUNK - 20, keytraces.CHUNK + 5000])
def test_every_form_is_found(what: str, place: int, tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(3 * keytraces.CHUNK)
        file.seek(place)
        file.write(FORMS[what]())
    found = keytraces.search_file(image, SECRET)
    assert found and {trace.key for trace in found} == {"key"}
    assert all(place <= trace.offset < place + 300 for trace in found)
    beyond = keytraces.search_file(image, SECRET, place + 300)
    assert beyond == []


def test_every_copy_is_found() -> None:
    offsets = {trace.offset // 1000 for trace in keytraces.search(PEM.ljust(1000) * 3, SECRET)}
    assert offsets == {0, 1, 2}


def test_what_everybody_may_see_is_no_trace() -> None:
    public = pki.cert_pem(pki.issue("x", KEY.public_key(), "x", KEY)).encode()
    assert keytraces.search(public + pki.spki(KEY.public_key()) + os.urandom(1 << 20), SECRET) == []
    # Only the public half stands in the last line of a P-256 key.
    assert keytraces.search(PEM.splitlines()[3], SECRET) == []


@pytest.mark.processes
def test_planted_keys_are_found_in_a_file_system_and_after_removal(tmp_path: Path) -> None:
    full = fleet_file.make("home")[1]
    keys = keytraces.secrets(full)
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "card").write_bytes(full)
    (tmp_path / "tree" / "other").write_bytes(fleet_file.make("home")[1])
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    hint = "Install it with: apt-get install e2fsprogs"
    for argv in (
        [tool("mke2fs", hint), "-q", "-F", "-t", "ext4", "-d", str(tmp_path / "tree"), str(image)],
        [tool("debugfs", hint), "-w", "-R", "rm /etc/card", str(image)],
    ):
        subprocess.run(argv, check=True, capture_output=True)
        found = {trace.key for trace in keytraces.search_file(image, keys)}
        assert found == {"control_plane", "enrol", "beacon_key"}
