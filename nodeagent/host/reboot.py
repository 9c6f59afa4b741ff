"""Rebooting without disturbing a system update that waits for its trial boot; switching off; which
boot this is."""

from __future__ import annotations

from nodeagent.host.host import Host


def boot_id(host: Host) -> str:
    """The kernel's random id of this boot (random(4), /proc/sys/kernel/random/boot_id)."""
    return (host.text("/proc/sys/kernel/random/boot_id") or "none").strip()


def reboot(host: Host) -> None:
    """Ask for a reboot; comes back, and the system goes down a little later.

    Ubuntu from 25.10 on boots a new kernel on trial first, in a boot of its own. Where one waits,
    this reboot is made that trial, which saves one of two ("A/B boot on Ubuntu for Raspberry Pi",
    "Avoiding the double-boot"). Raises CommandFailed.
    """
    untested = host.run("piboot-try", "--test").status == 0  # not there on other systems: 127
    if untested and host.run("piboot-try", "--reboot").status == 0:
        return
    host.call("systemctl", "reboot")


def power_off(host: Host) -> None:
    """Ask for the end of this boot; comes back, as ``reboot``. Raises CommandFailed."""
    host.call("systemctl", "poweroff")
