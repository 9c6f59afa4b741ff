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
from nodeagent.host.timesync import synchronised
from nodeagent.steps.step import Step

# This release of the agent was made after this day, so no right clock shows an earlier one.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
# Nor a later one: its Kubernetes is out of support for years then. A clock that is ahead is worse
# than one that is behind, since certificates made by it are not valid yet once it is right.
OUTLIVED = datetime(2036, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Clock(Step):
    """Waits ``timing.clock_wait`` seconds from power-on for a time server; after that a
    believable clock will do, for networks that have none."""

    name = "clock"
    title = "Wait for the right time"
    group = "Network"
    why = "Certificates, package lists and tokens are refused when it is off."

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

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        if synchronised(facts):
            return "set by a time server"
        return "believable, but no time server has answered"
