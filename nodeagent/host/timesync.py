"""Whether a time service has set the clock."""

from __future__ import annotations

from nodeagent.host.facts import Facts

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
