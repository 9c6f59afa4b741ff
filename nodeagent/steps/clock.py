"""Step: the clock is right. Most Pis have no battery for it, and certificates, apt's lists and
tokens are all refused when it is off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts

# This release of the agent was made after this day, so no right clock shows an earlier one.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
# Nor a later one: its Kubernetes is out of support for years then. A clock that is ahead is worse
# than one that is behind, since certificates made by it are not valid yet once it is right.
OUTLIVED = datetime(2036, 11, 1, tzinfo=UTC)
# systemd-timesyncd makes it at the first synchronisation (systemd-timesyncd.service(8)).
SYNCHRONISED = "/run/systemd/timesync/synchronized"
CHRONY = "/run/chrony"  # there while chronyd runs


def synchronised(facts: Facts) -> bool:
    """True where a time service has set the clock: timesyncd, chrony, ntpsec."""
    if facts.exists(SYNCHRONISED):
        return True
    # The kernel's own flag (timedatectl(1), NTPSynchronized).
    answer = facts.ask("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    if answer.status == 0 and answer.out.strip() == "yes":
        return True
    # Without rtcsync in its configuration chrony leaves that flag alone (chrony.conf(5)).
    return facts.exists(CHRONY) and facts.ask("chronyc", "-n", "waitsync", "1").status == 0


@dataclass(frozen=True)
class Clock:
    """Waits ``timing.clock_wait`` seconds from power-on for a time server; after that a
    believable clock will do, for networks that have none."""

    name: str = "clock"
    title: str = "Wait for the right time"

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only looks. Raises Blocked."""
        yield from ()
        if not facts.live or synchronised(facts):
            return
        if facts.uptime < settings.timing.clock_wait:
            raise Blocked(
                "Waiting for the time from the network.",
                f"Nothing yet; after {settings.timing.clock_wait} s a believable clock will do.",
                within=settings.timing.clock_wait - facts.uptime,
            )
        if not RELEASED.timestamp() <= facts.now < OUTLIVED.timestamp():
            shown = datetime.fromtimestamp(facts.now, UTC).strftime("%Y-%m-%d %H:%M")
            raise Blocked(
                f"The clock says {shown} UTC, which cannot be, and no time server answers.",
                "Allow NTP (UDP port 123) to the internet, or name a time server in"
                " /etc/systemd/timesyncd.conf; or set the clock with `date -s`.",
            )
