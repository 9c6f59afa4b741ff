"""What makes a stock system install the agent when it first boots.

Where cloud-init is, a boothook in its vendor data (cloud-init's documentation, "Cloud boothook" and
"Vendor data"): it runs at every boot, so a power cut cannot lose it, and beside whatever user data
there is. Raspberry Pi Imager replaces user-data when it customises a card and knows nothing of
vendor-data, and so both can be done in either order.

Elsewhere ``systemd.run=`` on the kernel's command line (systemd-run-generator(8)), as Imager itself
does for its firstrun.sh. Several may be there; each is run, in order. Imager's script removes
everything from the first one on, ours removes only its own words.
"""

from __future__ import annotations

from importlib import resources

from nodeagent.errors import ImageError, Refused
from nodeagent.host.boot import cmdline, files
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.imaging import inspect
from nodeagent.imaging.packages import FOLDER

SCRIPT, INSTALL, VENDOR = f"{FOLDER}/first-boot.sh", f"{FOLDER}/install.sh", "vendor-data"
BOOTHOOK = b"#cloud-boothook\n"
RUN = f"systemd.run=/boot/firmware/{SCRIPT}"
# What systemd does afterwards and instead of the usual boot; Imager asks for the same.
AFTER = ("systemd.run_success_action=reboot", "systemd.unit=kernel-command-line.target")


def write(host: Host, boot: str) -> list[str]:
    """Write the hook below ``boot``; the names in the order in which they are needed.

    Raises Refused where something of somebody else's stands in its place, ImageError.
    """
    script = _text("first-boot.sh")
    host.write(f"{boot}/{INSTALL}", _text("install.sh"))
    if inspect.has_cloud_init(host.names(boot)):
        hook = BOOTHOOK + script
        there = host.read(f"{boot}/{VENDOR}")
        if there is not None and not there.startswith(BOOTHOOK + b"#!/bin/sh\n# Put on a card by"):
            raise Refused(
                f"There is a {VENDOR} of somebody else's on it, and the installation needs its"
                " place.",
                "Have that one install nodeagent, and say --no-install.",
            )
        host.write(f"{boot}/{VENDOR}", hook)
        return [INSTALL, VENDOR]
    try:
        path = files.find(Facts(host)).cmdline
    except LookupError as error:
        raise ImageError(f"The image cannot be started: {error}.", "Take a fresh image.") from error
    host.write(f"{boot}/{SCRIPT}", script.replace(b"/boot/firmware/cmdline.txt", path.encode()))
    try:
        host.write(path, with_hook(host.read(path) or b""))
    except ValueError as error:
        raise ImageError(f"{path} {error}.", "Take a fresh image.") from error
    return [INSTALL, SCRIPT]


def with_hook(data: bytes) -> bytes:
    """A cmdline.txt with the hook on its line, before one of Imager's. Raises ValueError."""
    words = cmdline.words(data)
    if RUN.encode() in words:
        return data
    others = any(word.startswith(b"systemd.run=") for word in words)
    return cmdline.add(data, (RUN,) if others else (RUN, *AFTER), ())


def _text(name: str) -> bytes:
    return resources.files("nodeagent.imaging").joinpath(name).read_bytes()
