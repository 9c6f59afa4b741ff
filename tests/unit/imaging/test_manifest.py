"""The list for Raspberry Pi Imager, against what its schema asks for, on images by real mtools."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.imaging.seed import Wish, seed
from tests.unit.imaging import layouts
from tests.unit.imaging.conftest import DEB

pytestmark = pytest.mark.processes

TEXT = {"type": "string", "minLength": 1}
SIZE = {"type": "integer", "minimum": 1}
HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
# The facts of rpi-imager's doc/json-schema/os-list-schema.json and doc/schema-notes.md that concern
# an entry with an image: which keys must be there, and what each holds.
SCHEMA = {
    "type": "object",
    "required": ["os_list"],
    "additionalProperties": False,
    "properties": {
        "imager": {
            "type": "object",
            "properties": {
                "devices": {
                    "type": "array",
                    "items": {"type": "object", "required": ["name", "tags"]},
                }
            },
        },
        "os_list": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "description", "icon", "url", "extract_size",
                             "extract_sha256", "image_download_size", "release_date", "devices"],
                "additionalProperties": False,
                "properties": {
                    "name": TEXT, "description": TEXT, "icon": TEXT,
                    "url": {"type": "string", "pattern": "^(https?|file)://"},
                    "extract_size": SIZE, "extract_sha256": HASH,
                    "image_download_size": SIZE, "image_download_sha256": HASH,
                    "release_date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
                    "init_format": {"enum": ["none", "systemd", "cloudinit", "cloudinit-rpi",
                                             "rpi-preseed"]},
                    "architecture": {"enum": ["armv6", "armv7", "armv8"]},
                    "devices": {"type": "array", "minItems": 1,
                                "items": {"enum": ["pi3-64bit", "pi4-64bit", "pi5-64bit"]}},
                },
            },
        },
    },
}  # fmt: skip


def manifest(out: Path, *images: Path, more: tuple[str, ...] = ()) -> Any:
    done = CliRunner().invoke(
        main, ["image", "manifest", *map(str, images), "--out", str(out), *more]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    jsonschema.Draft7Validator(SCHEMA).validate(found)
    return found


@pytest.fixture
def seeded(tmp_path: Path, fleet: Path) -> Callable[[str], Path]:
    """Makes an image of a layout, seeded."""

    def make(name: str) -> Path:
        image = layouts.image(name, tmp_path)
        deb = tmp_path / "nodeagent_0.1.0_all.deb"
        deb.write_bytes(DEB)
        seed(image, Wish(fleet, deb=deb))
        return image

    return make


def refused(out: Path, image: Path) -> str:
    done = CliRunner().invoke(main, ["image", "manifest", str(image), "--out", str(out)])
    assert done.exit_code == 65 and not out.exists(), done.output
    return " ".join(done.output.split())


FORMATS = {"bookworm": "systemd", "trixie": "cloudinit-rpi", "noble": "cloudinit",
           "resolute": "cloudinit"}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_is_described_as_imager_wants_it(
    name: str, tmp_path: Path, seeded: Callable[[str], Path]
) -> None:
    image = seeded(name)
    (entry,) = manifest(tmp_path / "out.json", image)["os_list"]
    data = image.read_bytes()
    assert entry["init_format"] == FORMATS[name]
    assert entry["url"] == image.as_uri()
    assert (entry["extract_size"], entry["extract_sha256"]) == (
        len(data), hashlib.sha256(data).hexdigest()
    )  # fmt: skip
    assert entry["image_download_sha256"] == entry["extract_sha256"]
    if "issue.txt" in layouts.LAYOUTS[name]:
        assert entry["release_date"].encode() in layouts.LAYOUTS[name]["issue.txt"]


@pytest.mark.parametrize("kind", ["xz", "gz"])
def test_a_packed_image_is_read_without_unpacking_it_first(
    kind: str, tmp_path: Path, seeded: Callable[[str], Path]
) -> None:
    image = seeded("trixie")
    data = image.read_bytes()
    packed = tmp_path / f"{image.name}.{kind}"
    packed.write_bytes(lzma.compress(data, preset=0) if kind == "xz" else gzip.compress(data, 1))
    found = manifest(tmp_path / "out", packed, more=("--url", "https://example.org/images/"))
    (entry,) = found["os_list"]
    assert entry["url"] == f"https://example.org/images/trixie.img.{kind}"
    assert (entry["extract_size"], entry["extract_sha256"]) == (
        len(data), hashlib.sha256(data).hexdigest()
    )  # fmt: skip
    assert entry["image_download_size"] == packed.stat().st_size
    assert entry["image_download_sha256"] == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert entry["init_format"] == "cloudinit-rpi"


def test_a_seeded_image_says_its_fleet(tmp_path: Path, seeded: Callable[[str], Path]) -> None:
    image = seeded("trixie")
    (entry,) = manifest(tmp_path / "out", image)["os_list"]
    assert "home" in entry["name"] and "home" in entry["description"]
    # Nothing of the keys that are in the image.
    assert "PRIVATE" not in (tmp_path / "out").read_text()


def test_an_image_that_nobody_seeded_is_refused(tmp_path: Path) -> None:
    image = layouts.image("trixie", tmp_path)
    said = refused(tmp_path / "out", image)
    assert f"{image} belongs to no fleet" in said and "image seed" in said


def test_a_system_that_imager_cannot_customise_is_told(
    tmp_path: Path, fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(layouts.LAYOUTS, "trixie", {
        name: data for name, data in layouts.TRIXIE.items() if name != "issue.txt"
    })  # fmt: skip
    image = layouts.image("trixie", tmp_path)
    seed(image, Wish(fleet, install=False))
    out = tmp_path / "out"
    (entry,) = manifest(out, image)["os_list"]
    assert entry["init_format"] == "none"
    # Whoever made the image may know it.
    (entry,) = manifest(out, image, more=("--init-format", "cloudinit-rpi"))["os_list"]
    assert entry["init_format"] == "cloudinit-rpi"


def test_what_an_image_shows_is_not_overruled(
    tmp_path: Path, seeded: Callable[[str], Path]
) -> None:
    image, out = seeded("trixie"), tmp_path / "out"
    words = ["image", "manifest", str(image), "--out", str(out), "--init-format", "systemd"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 65 and not out.exists() and "cloudinit-rpi" in done.output
    (entry,) = manifest(out, image, more=("--init-format", "none"))["os_list"]
    assert entry["init_format"] == "none"


def test_an_archive_is_called_by_its_own_name(tmp_path: Path) -> None:
    packed = tmp_path / "raspios.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("raspios.img", bytes(3_000_000))
    said = refused(tmp_path / "out", packed)
    assert f"{packed} is compressed (zip)" in said and "unzip raspios.zip" in said
    assert "/nodeagent-" not in said


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("spoil", [cut, lambda data: data[:5000] + b"x" + data[5001:]])
def test_a_damaged_download_is_named_and_nothing_written(spoil: Any, tmp_path: Path) -> None:
    image = layouts.image("trixie", tmp_path)
    packed = tmp_path / "trixie.img.xz"
    packed.write_bytes(spoil(lzma.compress(image.read_bytes(), preset=0)))
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["image", "manifest", str(packed), "--out", str(out)])
    assert done.exit_code == 65, done.output
    assert "damaged or cut short" in done.output and not out.exists()


def test_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(b"hello" * 1_000_000)
    done = CliRunner().invoke(
        main, ["image", "manifest", str(tmp_path / "x.img"), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 65 and "is no image" in done.output
