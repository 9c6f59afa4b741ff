"""Which mounts keep what is written to them: lines of /proc/mounts in, a reason or none out."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.errors import Blocked
from nodeagent.host import mounts
from nodeagent.host.facts import Facts
from tests.support.machine import Machine, put

CARD = "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n"
UP = "rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/media/root-rw/w"
ROOT = f"overlayroot / overlay {UP} 0 0\n"
KEY = "/var/lib/nodeagent"


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("", None),
        (CARD, None),
        ("rootfs / rootfs rw 0 0\n" + CARD, None),
        (ROOT + "tmpfs-root /media/root-rw tmpfs rw 0 0\n", "changes are kept in memory"),
        (ROOT + "/dev/sda1 /media/root-rw ext4 rw 0 0\n", None),
        (ROOT + "/dev/zram1 /media/root-rw ext4 rw 0 0\n", "changes are kept in memory"),
        (ROOT, "cannot be seen"),
        ("rootfs / rootfs rw 0 0\n" + ROOT, "cannot be seen"),
        (ROOT.replace("rw,", "rw,volatile,", 1) + "/dev/sda1 /media/root-rw ext4 rw 0 0\n",
         "mounted as volatile"),
        ("x / overlay rw,lowerdir=/a:/b 0 0\n", "mounted read-only"),
        (CARD.replace("rw", "ro"), "mounted read-only"),
        (CARD + "tmpfs /var tmpfs rw 0 0\n", "/var (tmpfs) forgets everything"),
        (CARD + "tmpfs /var/log tmpfs rw 0 0\n", None),
        (CARD + "/dev/zram0 /var/lib ext4 rw 0 0\n", "it is in memory"),
        (ROOT + "/dev/sdb1 /var/lib/nodeagent ext4 rw 0 0\n", None),
        (CARD + "none /var overlay rw,lowerdir=/x,upperdir=/my\\040var,workdir=/w 0 0\n", None),
        ("192.0.2.9:/pi / nfs4 rw,vers=4.2 0 0\n", None),
        ("cut off\n\n" + CARD + "x", None),
    ],
)  # fmt: skip
def test_what_forgets(table: str, why: str | None, tmp_path: Path) -> None:
    put(tmp_path, {"/proc/mounts": table})
    facts = Facts(Machine(tmp_path))
    if why is None:
        mounts.check_lasting(facts, KEY)
        return
    with pytest.raises(Blocked) as caught:
        mounts.check_lasting(facts, KEY)
    assert why in caught.value.reason
    assert KEY in caught.value.reason


def test_links_on_the_way_are_followed(tmp_path: Path) -> None:
    put(tmp_path, {"/proc/mounts": CARD + "tmpfs /run tmpfs rw 0 0\n",
                   "/run/lib": {"folder": True}, "/var/lib": {"link": "/run/lib"}})  # fmt: skip
    found = mounts.of(Facts(Machine(tmp_path)), KEY)
    assert found is not None and found.point == "/run"
