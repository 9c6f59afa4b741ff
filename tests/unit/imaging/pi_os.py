"""A model of what Raspberry Pi OS does to its boot partition before systemd starts, and of what
Imager writes there.

Compared with what the real scripts of raspberrypi-sys-mods made of each line of test_first_boot's
LINES and JOURNEYS: imager_fixup at 3af395f (goes on with the boot) and at 01b6fc5b (reboots), the
edits of firstboot at 3af395f and of set_partuuid at 5c673174. Imager's part is by reading
customization_generator.cpp of rpi-imager 72ad1179.
"""

from __future__ import annotations

import re
from pathlib import Path

from nodeagent.imaging import system
from tests.unit.imaging import layouts

FIXED_UP, RESIZED = "fixed up", "resized"
NEW_FIRSTRUN = b"rm -f /boot/firmware/firstrun.sh\nsed -i 's/ systemd[.][^ ]*//g' "
NEW_FIRSTRUN += b"/boot/firmware/cmdline.txt\nexit 0\n"


# It corrects the path that Imager wrote, and with it whatever else on the line looks like it, and
# has firstrun.sh end otherwise.
def imager_fixup(line: bytes) -> bytes:
    if b"systemd.run=/boot/firstrun.sh" not in line:
        return line
    return line.replace(b"/boot/", b"/boot/firmware/")


def fixed_firstrun(line: bytes) -> bytes:
    return re.sub(rb" systemd\.[^ ]*", b"", line)


def first_boot(line: bytes) -> bytes:
    """The line after it: by firstboot as init= until bookworm, by set_partuuid since trixie."""
    if system.FIRSTBOOT in line:
        line = line.replace(b" " + system.FIRSTBOOT, b"")
        line = line if b"splash" in line else line.replace(b" quiet", b"")
    elif b" resize" in line:
        line = line.replace(b" resize", b"")
    else:
        return line
    return line.replace(b"6e6f6465", b"0badcafe")


def before_systemd(card: Path) -> str:
    """One boot's part of it; how the boot ended before systemd, or nothing."""
    path, script = card / "cmdline.txt", card / "firstrun.sh"
    running = path.read_bytes()
    if imager_fixup(running) != running:
        path.write_bytes(imager_fixup(running))
        if script.exists():
            kept = re.split(rb"(?m)^.*rm.*firstrun\.sh$", script.read_bytes())[0]
            script.write_bytes(kept + NEW_FIRSTRUN)
        if system.FIRSTBOOT not in running:  # the newer one, of the systems that came without that
            return FIXED_UP
    path.write_bytes(first_boot(path.read_bytes()))
    return RESIZED if system.FIRSTBOOT in running else ""


def customise(card: Path, init_format: str) -> None:
    """What Imager writes for ``init_format`` when it has flashed the card."""
    line = card / "cmdline.txt"
    there = line.read_bytes().rstrip() if line.exists() else b""
    if init_format == "systemd":
        (card / "firstrun.sh").write_bytes(layouts.BOOKWORM_IMAGER["firstrun.sh"])
        line.write_bytes(there + layouts.IMAGER_RUN)
        return
    for name in ("user-data", "meta-data"):
        (card / name).write_bytes(layouts.TRIXIE_IMAGER[name])
    line.write_bytes(there + b" ds=nocloud;i=rpi-imager-1750000000000\n")
