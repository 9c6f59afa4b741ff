"""A stranger's small .xz that unpacks to more than the disk holds: `image bake`, as it is typed, on
a file system of its own (attack a29)."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.support import namespaces

pytestmark = [pytest.mark.net]

MIB = 1 << 20
HELD, ROOM = 200 * MIB, 48 * MIB
FOOTER = 12  # bytes (The .xz File Format 1.2.1, section 2.1.2)
# In a mount namespace of its own: the disk, on it the bomb; what is used on it is looked at while
# the command runs and afterwards.
CALL = """\
import json, os, shutil, subprocess, sys
place, room = sys.argv[1:3]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", place], check=True)
packed = sys.stdin.buffer.read()
open(f"{place}/bomb.img.xz", "wb").write(packed)
open(f"{place}/nodeagent.deb", "wb").close()
before, most = shutil.disk_usage(place).used, 0
bake = subprocess.Popen(
    [sys.executable, "-c", "from nodeagent.cli.main import main; main()", "image", "bake",
     f"{place}/bomb.img.xz",
     "--out", f"{place}/out.img", "--deb", f"{place}/nodeagent.deb"],
    stderr=subprocess.PIPE)
while bake.poll() is None:
    most = max(most, shutil.disk_usage(place).used - before)
    try:
        bake.wait(0.01)
    except subprocess.TimeoutExpired:
        pass
print(json.dumps({"status": bake.returncode, "said": bake.stderr.read().decode(),
                  "most": most, "left": sorted(os.listdir(place))}))
"""


def number(value: int) -> bytes:
    """As section 1.2 has it."""
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def listing(stream: bytes, content: int) -> bytes:
    """The same stream with a list that says so many bytes are in it (section 4)."""
    length = (int.from_bytes(stream[-8:-4], "little") + 1) * 4
    blocks = stream[: -FOOTER - length]
    unpadded = len(blocks) - FOOTER  # its header is as long as its footer
    index = b"\0\1" + number(unpadded) + number(content)
    index += bytes(-len(index) % 4)
    index += zlib.crc32(index).to_bytes(4, "little")
    end = (len(index) // 4 - 1).to_bytes(4, "little") + stream[-4:-2]
    return blocks + index + zlib.crc32(end).to_bytes(4, "little") + end + b"YZ"


# Not of zeros, which would take no room.
BOMB = lzma.compress(b"x" * HELD, preset=0)
BOMBS = {
    "it says how much": (BOMB, "unpacked", MIB),
    "it lists less": (listing(BOMB, 4 * MIB), "damaged or cut short", 6 * MIB),
    "it lists far more": (listing(BOMB, 10**15), "unpacked", MIB),
    "many one after the other": (lzma.compress(b"x" * 20 * MIB, preset=0) * 10, "unpacked", MIB),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_does_not_fill_the_disk(name: str, tmp_path: Path) -> None:
    packed, said, most = BOMBS[name]
    assert len(packed) < MIB
    done = subprocess.run(
        namespaces.apart(sys.executable, "-c", CALL, str(tmp_path), str(ROOM)),
        input=packed, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] not in (0, 1) and said in found["said"], found
    assert "Traceback" not in found["said"]
    assert found["most"] <= most
    assert found["left"] == ["bomb.img.xz", "nodeagent.deb"]
