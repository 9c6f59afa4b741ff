"""The list for Raspberry Pi Imager, against what its schema asks for, on images by real mtools."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from tests.unit.imaging import layouts

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


FORMATS = {"bookworm": "systemd", "trixie": "cloudinit-rpi", "noble": "cloudinit",
           "resolute": "cloudinit"}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_is_described_as_imager_wants_it(name: str, tmp_path: Path) -> None:
    image = layouts.image(name, tmp_path)
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
def test_a_packed_image_is_read_without_unpacking_it_first(kind: str, tmp_path: Path) -> None:
    image = layouts.image("trixie", tmp_path)
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


def test_a_seeded_image_says_its_fleet(tmp_path: Path, fleet: Path, bundle: Path) -> None:
    image = layouts.image("trixie", tmp_path)
    CliRunner().invoke(main, ["image", "seed", str(image), "--fleet", str(fleet), "--packages",
                              str(bundle)])  # fmt: skip
    (entry,) = manifest(tmp_path / "out", image)["os_list"]
    assert "home" in entry["name"] and "home" in entry["description"]
    # Nothing of the keys that are in the image.
    assert "PRIVATE" not in (tmp_path / "out").read_text()


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
