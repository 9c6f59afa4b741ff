"""Where bytes of the fleet's keys are on the raw cards, once the cluster has formed.

Boards 1 and 2 get identical cards, so that one of them leads and the other forgets what it does not
need; further boards get the card file for workers (`fleet new --split`). All are turned off, and
each card is searched from its first to its last byte, files and free space alike. After another
scenario of identical cards it goes on with that one's cluster.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

from nodeagent.trust import fleet_file
from tests.support import keytraces

from . import checks, disk, results, toolbox
from .board import Board
from .cluster import Cluster
from .guest import Guest, wait
from .place import run_folder, say

IDENTICAL = 2  # boards with the full card
BLOCK = 4096  # bytes of the root file system, as mke2fs makes one of its size
# Who may hold what on the root partition; on the boot partition nobody holds anything.
LEADER = frozenset({"control_plane", "enrol", "beacon_key"})
WORKER = frozenset({"enrol", "beacon_key"})
KEPT = ("/var/lib/nodeagent/trust/fleet.json", "/var/lib/nodeagent/trust/control-plane.key")


def census(cluster: Cluster) -> checks.Outcome:
    """Form a cluster where there is none, power it off, search every card."""
    if not cluster.formed:
        cluster.power_on(card=_workers_card)
    full = (run_folder() / "fleet" / fleet_file.NAME).read_bytes()
    keys = keytraces.secrets((run_folder() / "fleet" / "lab.fleet").read_bytes())
    # The tool must find them where they are known to be.
    seen = {trace.key for trace in keytraces.search(full, keys)}
    checks.need(seen == LEADER, f"in the card file itself only {seen} were found")
    checks.until_up(cluster)
    leader = checks.control_plane(cluster)
    for guest in cluster.guests:
        guest.ssh("sudo systemctl poweroff", check=False)
    cluster.formed = False
    off = lambda: all(guest.last_event == "off" for guest in cluster.guests)  # noqa: E731
    wait("the boards did not turn themselves off", off, 300)
    outcome: checks.Outcome = {}
    rows: list[dict[str, str]] = []
    for guest in cluster.guests:
        allowed = LEADER if guest is leader else WORKER
        outcome |= _search(guest, keys, allowed, rows)
    checks.show(outcome)
    results.write(cluster, "census", {"checks": outcome, "table": rows})
    return outcome


def _workers_card(board: Board) -> None:
    """Boards after the first two get a card that never held the control-plane issuer's key.

    The full one, which every board got, is not left on it: the partition is as one that was
    written once.
    """
    if board.index <= IDENTICAL:
        return
    full = (run_folder() / "fleet" / fleet_file.NAME).read_bytes()
    worker = run_folder() / "fleet" / "worker.fleet"
    worker.write_bytes(fleet_file.for_workers(full))
    disk.replace(board.card, fleet_file.NAME, full, worker)


def _search(
    guest: Guest, keys: dict[str, bytes], allowed: frozenset[str], rows: list[dict[str, str]]
) -> checks.Outcome:
    """The two checks of one card."""
    card = guest.board.card
    say("searching the raw card", guest.name)
    boot = keytraces.search_file(card, keys, 0, disk.ROOT_START)
    root = keytraces.search_file(card, keys, disk.ROOT_START)
    places: dict[str, set[str]] = {}
    for place, traces in (("boot partition", boot), ("root partition", root)):
        for trace in traces:
            where = place if place == "boot partition" else owner(card, trace.offset)
            places.setdefault(where, set()).add(trace.key)
    for where, held in sorted(places.items()):
        rows.append({"node": guest.name, "where": where, "keys": ", ".join(sorted(held))})
    found = {trace.key for trace in root}
    elsewhere = sorted(set(places) - set(KEPT))
    said = "; ".join(f"{where}: {', '.join(sorted(held))}" for where, held in places.items())
    return {
        f"{guest.name}: nothing on the boot partition": (not boot, f"{len(boot)} traces"),
        f"{guest.name}: only what it needs, only in its files": (
            found == allowed and not elsewhere, said or "nothing",
        ),
    }  # fmt: skip


def owner(card: Path, offset: int) -> str:
    """The file that a byte of the root partition belongs to, or what else it is."""
    return _owner(card, (offset - disk.ROOT_START) // BLOCK)


@functools.cache
def _owner(card: Path, block: int) -> str:
    image = f"{card}?offset={disk.ROOT_START}"  # debugfs(8)

    def ask(request: str) -> list[str]:
        argv = toolbox.command("debugfs", "-R", request, image)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        return lines[1].split("\t", 1) if len(lines) > 1 else ["", ""]

    inode = ask(f"icheck {block}")[-1]
    if not re.fullmatch(r"[0-9]+", inode):
        return f"free space, block {block}"
    name = ask(f"ncheck {inode}")[-1]
    return re.sub(r"/+", "/", name) or f"inode {inode}"
