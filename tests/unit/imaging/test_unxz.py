"""An .xz of which nobody knows who made it."""

from __future__ import annotations

import lzma
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import ImageError, NoRoom
from nodeagent.imaging import bake, unxz

DATA = bytes(range(256)) * 5000
STREAM = lzma.compress(DATA)


def unpacked(path: Path) -> bytes:
    """As `image bake` does it."""
    return b"".join(data for data, _ in unxz.pieces(path, unxz.size(path)))


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (STREAM, DATA),
        (lzma.compress(b""), b""),
        (STREAM + STREAM, DATA + DATA),
        (STREAM + bytes(8) + lzma.compress(b"x") + bytes(4), DATA + b"x"),
        (lzma.compress(DATA, check=lzma.CHECK_SHA256, preset=9), DATA),
        (lzma.compress(bytes(5 * unxz.MIB)), bytes(5 * unxz.MIB)),
    ],
)
def test_whole_ones(tmp_path: Path, packed: bytes, plain: bytes) -> None:
    path = tmp_path / "x.xz"
    path.write_bytes(packed)
    assert unxz.is_packed(path) and unxz.size(path) == len(plain)
    assert unpacked(path) == plain


def listing(content: int) -> bytes:
    """The same stream, whose list says another size, with the checksum that fits."""
    end = STREAM[-12:]
    length = (int.from_bytes(end[4:8], "little") + 1) * 4
    index = STREAM[-12 - length : -12]
    first, _ = unxz._number(index, 2)
    body = b"\0\1" + _vli(first) + _vli(content)
    body += bytes(-len(body) % 4)
    size = (len(body) + 4).to_bytes(4, "little")
    backward = (int.from_bytes(size, "little") // 4 - 1).to_bytes(4, "little")
    footer = _crc(backward + end[8:10]) + backward + end[8:10] + b"YZ"
    return STREAM[: -12 - length] + body + _crc(body) + footer


def _vli(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


@pytest.mark.parametrize("content", [0, 1, 1000, len(DATA) - 1, len(DATA) + 1, 10**12])
def test_a_list_that_lies(tmp_path: Path, content: int) -> None:
    path = tmp_path / "x.xz"
    path.write_bytes(listing(content))
    assert unxz.size(path) == content
    with pytest.raises(ImageError, match="damaged or cut short"):
        unpacked(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own list says how large it is, before the first byte is written."""
    path = tmp_path / "bomb.img.xz"
    path.write_bytes(listing(10**15))
    (tmp_path / "work").mkdir()
    with pytest.raises(NoRoom, match=r"holds 931322\.6 GiB unpacked"):
        bake._unpacked(path, tmp_path / "work/source.img", lambda _: None)
    assert list((tmp_path / "work").iterdir()) == []
    path.write_bytes(STREAM)
    usage = shutil.disk_usage(tmp_path)._replace(free=len(DATA) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoRoom):
        bake._unpacked(path, tmp_path / "work/source.img", lambda _: None)


def test_a_dictionary_that_takes_all_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.xz"
    wide: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**30, "mode": 1,
                                   "mf": lzma.MF_HC3, "nice_len": 10, "depth": 1}]  # fmt: skip
    try:
        path.write_bytes(lzma.compress(b"small", filters=wide))
    except MemoryError:
        pytest.skip("this machine cannot make one")
    with pytest.raises(ImageError, match=r"[Mm]emory"):
        unpacked(path)


@given(st.integers(0, len(STREAM) - 1), st.binary(min_size=1, max_size=4))
def test_whatever_is_in_it(tmp_path_factory: Any, at: int, put: bytes) -> None:
    """A file that is damaged is called that, whatever is damaged in it."""
    path = tmp_path_factory.mktemp("xz") / "x.xz"
    for data in (STREAM[:at], STREAM[:at] + put + STREAM[at + len(put) :]):
        path.write_bytes(data)
        try:
            assert unpacked(path) in (DATA, b"")
        except ImageError as error:
            assert "damaged or cut short" in error.reason
