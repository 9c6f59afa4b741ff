"""Partition tables: found where they are, and never a crash, whatever the bytes are."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import ImageError
from nodeagent.imaging import partition
from tests.unit.imaging import layouts

START, SECTORS, ROOT = 64 * 512, 128, 16
PARTS = [(0x0C, START, SECTORS), (0x83, START + SECTORS * 512, ROOT)]
FAT = (b"\xeb\x58\x90MSDOS5.0" + struct.pack("<H", 512) + bytes(69) + b"FAT32   ").ljust(
    510, b"\0"
) + b"\x55\xaa"


def build(gpt: bool) -> bytearray:
    """A table of either kind, a FAT boot sector, and nothing else."""
    data = bytearray(START + (SECTORS + ROOT) * 512)
    table = layouts.table(PARTS, gpt)
    data[: len(table)] = table
    data[START : START + 512] = FAT
    return data


@pytest.mark.parametrize("gpt", [False, True])
def test_the_boot_partition_is_found(gpt: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(build(gpt))
    assert partition.find(path) == partition.Partition(START, SECTORS * 512)
    assert partition.end_of_boot(path) == START + SECTORS * 512
    path.write_bytes(build(gpt)[:-1])
    with pytest.raises(ImageError, match="cut short"):
        partition.find(path)


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 3 * 512 - 1), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, START),
)
def test_no_bytes_crash_it(
    tmp_path_factory: pytest.TempPathFactory,
    gpt: bool,
    changes: list[tuple[int, bytes]],
    cut: int,
) -> None:
    data = build(gpt)
    for at, new in changes:
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "random.img"
    path.write_bytes(data[: len(data) - cut])
    for whole in (True, False):
        try:
            found = partition.find(path, whole)
        except ImageError:
            continue
        assert found.size > 0 and found.offset >= 0
        assert not whole or found.offset + found.size <= path.stat().st_size
