"""The durable writer on a real FAT under a real kernel: what is on the card the moment it returns.

A virtual card is a file of this machine, and what the guest's kernel has sent to it is in that
file at once. So a look at it is what a power cut would leave, without cutting anything. The plain
way (write, fsync, rename, fsync of the folder), good on ext4, is the seeded defect.
"""

from __future__ import annotations

from . import checks, disk, results
from .cluster import Cluster
from .guest import Guest, wait
from .place import LabError, say
from .undone import spoil

PATH = "/boot/firmware/cmdline.txt"
ROUNDS = 5
PLAIN = """
import os, pathlib, sys
path = pathlib.Path(sys.argv[1])
new = path.with_name("plain-new")
with new.open("wb") as file:
    file.write(sys.stdin.buffer.read())
    file.flush()
    os.fsync(file.fileno())
new.replace(path)
folder = os.open(path.parent, os.O_RDONLY)
os.fsync(folder)
"""
OURS = """
import pathlib, sys
from nodeagent.host import durable
durable.write(pathlib.Path(sys.argv[1]), sys.stdin.buffer.read(), 0o644)
"""


def fat(cluster: Cluster) -> checks.Outcome:
    """Replace the boot file a few times in either way; the card must hold the new one at once."""
    cluster.power_on(card=spoil)  # the agent waits, because its settings are wrong
    guest = cluster.guests[0]
    wait(f"{guest.name} does not answer", lambda: guest.ssh("true") == "", 300, 1)
    line = guest.ssh(f"cat {PATH}")
    bad = {
        name: _bad(guest, script, line) for name, script in {"ours": OURS, "plain": PLAIN}.items()
    }
    outcome = {
        "the agent's writer": (bad["ours"] == 0, f"{bad['ours']} of {ROUNDS} not on the card"),
        "the plain writer is caught": (bad["plain"] > 0, f"{bad['plain']} of {ROUNDS} not on it"),
    }
    checks.show(outcome)
    results.write(cluster, "fat", {"checks": outcome})
    return outcome


def _bad(guest: Guest, script: str, line: str) -> int:
    """In how many rounds the card did not hold what had been written."""
    guest.ssh("cat > /tmp/write.py", stdin=script)
    bad = 0
    for number in range(ROUNDS):
        # Everything else is on the card already, so that only this write is looked at.
        guest.ssh("sync")
        text = f"{line.strip()} round={number}\n"
        guest.ssh(f"sudo python3 /tmp/write.py {PATH}", stdin=text)
        try:
            found = disk.read(guest.board.card, "cmdline.txt")
        except LabError as why:
            found = str(why)
        if found != text:
            bad += 1
            say(f"on the card: {' '.join((found or 'nothing').split())[:120]}", guest.name)
    guest.ssh(f"sudo tee {PATH} >/dev/null; sync", stdin=line)
    return bad
