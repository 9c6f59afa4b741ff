"""Step: the hardware watchdog is armed, so that a hung board restarts by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action, Run, Write
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, removed
from nodeagent.steps.step import Step

FILE = "/etc/systemd/system.conf.d/99-nodeagent-watchdog.conf"
# As Raspberry Pi OS sets it. The hardware counts 16 s, the kernel pings it in between; shorter
# times here were seen to reset slow boards while systemd reloads.
TEXT = HEADER + "[Manager]\nRuntimeWatchdogSec=1min\nRebootWatchdogSec=2min\n"
OFF = ("", "0", "infinity")


@dataclass(frozen=True)
class Watchdog(Step):
    """Only where there is one and the system has not armed it; its own time is never changed."""

    name = "watchdog"
    title = "Arm the hardware watchdog"
    group = "Board"
    why = "A board that hangs restarts by itself."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The file there means done: at the next boot at the latest systemd reads it, and a
        watchdog that something else holds open must not keep the node from its work."""
        if not facts.live or facts.exists(FILE):
            return
        if not facts.any_of("/dev/watchdog", "/dev/watchdog0"):
            return
        armed = facts.ask("systemctl", "show", "-p", "RuntimeWatchdogUSec", "--value")
        if armed.status == 0 and armed.out.strip() in OFF:
            yield Write(FILE, TEXT.encode())
            yield Run(("systemctl", "daemon-reexec"))

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        if not facts.any_of("/dev/watchdog", "/dev/watchdog0"):
            return "the board has none"
        armed = facts.ask("systemctl", "show", "-p", "RuntimeWatchdogUSec", "--value")
        after = armed.out.strip()
        if armed.status != 0 or after in OFF:
            return "armed from the next boot on"
        return f"armed, {after}"

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """As the system has it from the next boot on."""
        yield from removed(facts, FILE, folder=True)
