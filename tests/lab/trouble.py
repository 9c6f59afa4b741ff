"""One board, everything wrong that a user can get wrong, one thing after the other.

Each trouble must show itself in ``nodeagent status`` with a plain reason, must leave alone what it
does not concern, and must end by itself when its cause goes away: nobody restarts anything.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import checks, disk, results, toolbox
from .board import Board
from .cluster import Cluster
from .guest import Guest, wait
from .place import LabError, run_folder, say

YAML = "/boot/firmware/nodeagent.yaml"
WRONG = {
    "settings: no YAML": "role: [auto\n",
    "settings: unknown key": "role: auto\nexpected_node: 1\n",
    "settings: bad address": "control_plane:\n  - 10.77.0.300\n",
}
TABLE = "trouble"
CHAIN = "type filter hook input priority 0; tcp dport { 80, 5000 } drop;"
CLOSED = f"table inet {TABLE} {{ chain c {{ {CHAIN} }}; }}"
FILLER = "/var/lib/filler"
BOUND = 900.0  # seconds; the slowest is apt's own patience with a mirror that does not answer


@dataclass
class Trouble:
    """What was wrong, what the status said of it, and how long each took."""

    name: str
    phase: str = ""
    code: str = ""
    said: str = ""
    shown_after: float = 0.0
    gone_after: float = 0.0


@dataclass
class Story:
    """The one board's troubles so far."""

    cluster: Cluster
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def guest(self) -> Guest:
        return self.cluster.guests[0]

    def shown(self, name: str, *words: str) -> Trouble:
        """Wait until the status says all ``words``. Raises LabError."""

        def said() -> bool:
            error = self.guest.status.get("error") or {}
            text = f"{error.get('code')} {error.get('reason')} {error.get('remedy')}"
            return all(word in text for word in words)

        took = wait(f"{name}: the status does not say {words}", said, BOUND, 0.5)
        status = self.guest.status
        error = status["error"]
        one = Trouble(name, status["phase"], error["code"], error["reason"], round(took, 1))
        self.troubles.append(one)
        say(f"shown: {one.phase}, {one.code}: {one.said}", self.guest.name)
        print(self.guest.ssh("nodeagent status; echo exit status $?"), flush=True)
        return one

    def cured(self, trouble: Trouble, commands: str, stdin: str = "") -> None:
        """Take the cause away, and wait until the status no longer names it. Raises LabError."""
        say(f"taking the cause away: {trouble.name}", self.guest.name)
        self.guest.ssh(f"sudo sh -ec {shlex.quote(commands)}", stdin=stdin)

        def gone() -> bool:
            error = self.guest.status.get("error")
            return not error or error["reason"] != trouble.said

        trouble.gone_after = round(wait(f"{trouble.name}: still there", gone, BOUND, 0.5), 1)


def trouble(cluster: Cluster) -> checks.Outcome:
    """Wrong settings, no fleet file, full boot partition, dead mirror, full card; then Ready."""
    asked = cluster.asked
    cluster.asked = dataclasses.replace(asked, nodes=1)
    try:
        return _play(Story(cluster))
    finally:
        cluster.asked = asked


def _play(story: Story) -> checks.Outcome:
    cluster = story.cluster
    texts = list(WRONG.items())
    cluster.power_on(card=lambda board: _spoil(board, texts[0][1]))
    _mirror(closed=True)
    fleet = (run_folder() / "fleet" / "nodeagent.fleet").read_text()
    begin = time.time()
    wait("the board does not answer", lambda: story.guest.ssh("true") == "", 300, 1)
    before = _state(story.guest)
    for at, (name, _) in enumerate(texts):
        one = story.shown(name, "E200", "nodeagent.yaml")
        if _state(story.guest) != before:
            raise LabError(f"{name}: something was changed although the settings are wrong.")
        following = texts[at + 1][1] if at + 1 < len(texts) else cluster.settings(1)
        story.cured(one, f"cat > {YAML}; sync", following)
    one = story.shown("no fleet file", "E300", "nodeagent.fleet")
    # The fleet file comes, and at the same moment there is no room left beside it.
    story.cured(
        one,
        "cd /boot/firmware; cat > fleet.new; cat /dev/zero > filler 2>/dev/null || true;"
        " mv fleet.new nodeagent.fleet; sync",
        fleet,
    )
    line = story.guest.ssh("cat /boot/firmware/cmdline.txt")
    one = story.shown("boot partition full", "E104", "/boot/firmware", "No space left")
    if story.guest.ssh("cat /boot/firmware/cmdline.txt") != line:
        raise LabError("cmdline.txt was changed on a full boot partition.")
    story.cured(one, "rm /boot/firmware/filler")
    boots = len(story.guest.power_ons())
    if boots == 1:
        wait("no reboot", lambda: len(story.guest.power_ons()) == 2, BOUND, 1)
    one = story.shown("package mirror does not answer", "mirror.lab")
    # Full before the mirror comes back, so that the download is what meets it.
    free = "$(( $(stat -f -c '%f * %S' /) * 98 / 100 ))"
    fill = f"fallocate -l {free} {FILLER}; cat /dev/zero >> {FILLER} 2>/dev/null || true; sync"
    story.guest.ssh(f"sudo sh -c {shlex.quote(fill)}", 600)
    _mirror(closed=False)
    story.cured(one, "true")
    one = story.shown("card full", "space")
    story.cured(one, f"rm {FILLER}")
    wait("not Ready", lambda: story.guest.ready, cluster.asked.minutes * 60, 1)
    took = time.time() - begin
    say(f"Ready {took:.0f} s after power-on, after {len(story.troubles)} troubles")
    checks.until_ready(cluster)
    outcome = checks.perform(cluster, checks.NODE, {"nothing left to do": checks.nothing_to_do})
    rows = [dataclasses.asdict(one) for one in story.troubles]
    results.write(cluster, "trouble", {"table": rows, "checks": outcome})
    return outcome


def _spoil(board: Board, settings: str) -> None:
    """The card as somebody hurried leaves it: wrong settings, and no fleet file."""
    wrong = run_folder() / "wrong.yaml"
    wrong.write_text(settings)
    disk.put(board.card, Path(YAML).name, wrong)
    disk.remove(board.card, "nodeagent.fleet")


def _mirror(closed: bool) -> None:
    """Packets to the mirror are lost, or no longer."""
    rules = CLOSED if closed else f"delete table inet {TABLE}"
    subprocess.run(toolbox.command("nft", rules, network=True), check=True)


def _state(guest: Guest) -> str:
    """What the agent would change first."""
    return guest.ssh(
        "sha256sum /boot/firmware/cmdline.txt /etc/hosts /etc/fstab; hostname; "
        "ls /etc/modules-load.d /etc/sysctl.d /etc/apt/sources.list.d; tail -n +2 /proc/swaps"
        " | cut -d' ' -f1"
    )
