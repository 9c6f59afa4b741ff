"""The activity LED tells the phase, by triggers of the kernel that blink it without any process
(kernel docs, leds/leds-class and leds/ledtrig; sysfs-class-led-trigger-timer).

Not by its brightness: on some boards and kernels that is upside down (raspberrypi/linux 6783).
"""

from __future__ import annotations

import re

from nodeagent.host.host import Host

LEDS = ("/sys/class/leds/ACT", "/sys/class/leds/led0")  # kernel 6.1 and newer, and before
BEFORE = "/run/nodeagent/led"  # the trigger that the system had chosen; the next boot sets it anew

# phase -> trigger, milliseconds on and off. What is missing: as the system had it, which on a Pi
# flashes when the card is used. The table in docs/surfaces.md says the same.
PATTERNS: dict[str, tuple[str, int, int]] = {
    "preparing": ("timer", 500, 500),
    "rebooting": ("timer", 500, 500),
    "discovering": ("timer", 100, 1900),
    "electing": ("timer", 100, 1900),
    "initialising": ("heartbeat", 0, 0),
    "joining": ("heartbeat", 0, 0),
    "failed": ("timer", 100, 100),
}


def show(host: Host, phase: str) -> None:
    """Blink as the phase does; nothing where there is no LED or no such trigger. Raises OSError."""
    if phase not in PATTERNS:
        give_back(host)
        return
    led = next((path for path in LEDS if host.exists(f"{path}/trigger")), None)
    if led is None:
        return
    offered = host.text(f"{led}/trigger") or ""
    trigger, on, off = PATTERNS[phase]
    if trigger not in re.findall(r"[\w-]+", offered):
        return
    if not host.exists(BEFORE):
        chosen = re.search(r"\[([\w-]+)\]", offered)
        host.write(BEFORE, (chosen[1] if chosen else "none").encode(), 0o644)
    host.set_attribute(f"{led}/trigger", trigger)
    if trigger == "timer":
        host.set_attribute(f"{led}/delay_on", str(on))
        host.set_attribute(f"{led}/delay_off", str(off))


def give_back(host: Host) -> None:
    """The LED as the system had it. Raises OSError."""
    before = host.text(BEFORE)
    if before is None:
        return
    for path in LEDS:
        if host.exists(f"{path}/trigger"):
            host.set_attribute(f"{path}/trigger", before)
    host.remove(BEFORE)
