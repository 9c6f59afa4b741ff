"""What makes a stock system install the agent when it first boots.

Where cloud-init is, a boothook in its vendor data (cloud-init's documentation, "Cloud boothook" and
"Vendor data"): it runs at every boot, so a power cut cannot lose it, and beside whatever user data
there is. Raspberry Pi Imager replaces user-data when it customises a card and knows nothing of
vendor-data, and so both can be done in either order. ``system`` tells where cloud-init would not
read it.

Elsewhere ``systemd.run=`` on the kernel's command line (systemd-run-generator(8)), as Imager itself
does for its firstrun.sh. Several may be there; each is run, in order. Imager's script removes
everything from the first one on, ours removes only its own words.

Raspberry Pi OS itself corrects Imager's path (raspberrypi-sys-mods, imager_fixup): its sed puts
``/boot/firmware/`` in the place of each ``/boot/`` on the line. The quotes in RUN, which
systemd takes away (systemd.syntax(7), "Quoting"), keep it from finding one there.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources

from nodeagent.errors import ImageError, Refused
from nodeagent.host.boot import cmdline, files
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.imaging.packages import FOLDER
from nodeagent.imaging.system import CLOUD_INIT, SYSTEMD

SCRIPT, INSTALL, VENDOR = f"{FOLDER}/first-boot.sh", f"{FOLDER}/install.sh", "vendor-data"
BOOTHOOK = b"#cloud-boothook\n"
RUN = f'systemd.run=/boot"/"firmware/{SCRIPT}'
RUN_BEFORE = RUN.replace('"', "")  # as 0.2.0 wrote it
# Without this systemd powers the board off where the script cannot be run, at each boot and for
# good (systemd-run-generator(8): FailureAction=exit). So it tries again.
FAILED = "systemd.run_failure_action=reboot"
# What systemd does afterwards and instead of the usual boot; Imager asks for the same.
AFTER = ("systemd.run_success_action=reboot", "systemd.unit=kernel-command-line.target")


def write(host: Host, boot: str, ways: Collection[str]) -> list[str]:
    """Write the hook below ``boot`` for these ``ways``, see ``system``; the names in the order in
    which they are needed. Run by both ways, it does its work once.

    Raises Refused where something of somebody else's stands in its place, ImageError.
    """
    script = _text("first-boot.sh")
    host.write(f"{boot}/{INSTALL}", _text("install.sh"))
    order = [INSTALL]
    if CLOUD_INIT in ways:
        hook = BOOTHOOK + script
        there = host.read(f"{boot}/{VENDOR}")
        if there is not None and not there.startswith(BOOTHOOK + b"#!/bin/sh\n# Put on a card by"):
            raise Refused(
                f"There is a {VENDOR} of somebody else's on it, and the installation needs its"
                " place.",
                "Have that one install nodeagent, and say --no-install.",
            )
        host.write(f"{boot}/{VENDOR}", hook)
        order.append(VENDOR)
    if SYSTEMD in ways:
        _on_the_line(host, boot, script)
        order.append(SCRIPT)
    return order


def _on_the_line(host: Host, boot: str, script: bytes) -> None:
    found = files.find(Facts(host))
    path = found.cmdline
    if found.others:  # the script takes its words out of one file
        raise ImageError(
            f"config.txt has some boards read {' or '.join(found.others)} in the place of {path},"
            " and it cannot be told which one this board will read.",
            "Let config.txt name one cmdline.txt for all boards, then seed again.",
        )
    host.write(f"{boot}/{SCRIPT}", script.replace(b"/boot/firmware/cmdline.txt", path.encode()))
    try:
        host.write(path, with_hook(host.read(path) or b""))
    except ValueError as error:
        raise ImageError(f"{path} {error}.", "Take a fresh image.") from error


def with_hook(data: bytes) -> bytes:
    """A cmdline.txt with the hook on its line, before one of Imager's. Raises ValueError."""
    words = cmdline.words(data)
    if RUN.encode() in words:
        return data
    if RUN_BEFORE.encode() in words:
        return data.replace(RUN_BEFORE.encode(), f"{RUN} {FAILED}".encode(), 1)
    others = any(word.startswith(b"systemd.run=") for word in words)
    return cmdline.add(data, (RUN, FAILED) if others else (RUN, FAILED, *AFTER), ())


def _text(name: str) -> bytes:
    return resources.files("nodeagent.imaging").joinpath(name).read_bytes()
