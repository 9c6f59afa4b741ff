"""A stranger floods the mDNS group, in every way there is; a node joins meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nodeagent.serve.mdns.message import TYPE
from nodeagent.trust import fleet_file
from tests.hostile.listening import until_heard
from tests.hostile.section import Section
from tests.support import flood_process
from tests.support.joining import ask, control_plane
from tests.support.virtual_lan import Lan, Node, plugged, processor, status

RATE = 870  # packets a second; what filled a library's memory in the experiments
SECONDS = 10.0
BOUND = 90.0  # seconds after which a node counts as kept out
LIMIT = 64 * 1024  # KiB: MemoryMax= of the unit


def run(seed: int) -> Section:
    """Each kind of flood once, and none; then the library by itself under the first."""
    card = fleet_file.make("home")[1]
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as folder, plugged("naflood", Path(folder), card) as lan:
        leader, attacker = control_plane(lan), lan.add()
        for kind in ("", *flood_process.KINDS):
            row, wrong = _one(lan, leader, attacker, kind)
            rows.append(row)
            faults += wrong
        alone = _library(lan, attacker)
    return Section(
        "Floods of mDNS",
        f"{RATE} packets a second. After {SECONDS:.0f} s of it a node is switched on, and the "
        "flood goes on until it has its grant (heard: its agent knows that there is a control "
        "plane). Memory is the most that the network process ever held, of the new node and of "
        f"the control plane; its unit allows {LIMIT // 1024} MiB. The zeroconf library by itself "
        f"held {alone / 1024:.0f} MiB after {SECONDS:.0f} s of names that change. Packets from the "
        "control plane's own address cannot be told from its own but by lot: there hearing it may "
        "take longer (not promised), and a configured address serves.",
        ("flood", "heard", "grant after", "node", "control plane", "its processor"),
        tuple(rows),
        tuple(faults),
    )


def _flood(attacker: Node, kind: str, seconds: float, victim: Node) -> subprocess.Popen[bytes]:
    process = attacker.start(
        "tests.support.flood_process", attacker.address, kind, str(RATE), str(seconds),
        victim.address, victim.key.node_id,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"at it\n", attacker.logs()
    return process


def _one(lan: Lan, leader: Node, attacker: Node, kind: str) -> tuple[tuple[str, ...], list[str]]:
    what = flood_process.KINDS[kind][0] if kind else "none"
    worker = lan.add()
    before, serving = time.monotonic(), leader.processes[-1]
    used = processor(serving)
    flood = _flood(attacker, kind, BOUND + SECONDS + 30, leader) if kind else None
    time.sleep(SECONDS)
    worker.announce()
    process = worker.serve()
    began = time.monotonic()
    heard = until_heard(worker, leader, BOUND)
    said = ask(worker, f"pi-{worker.number}", leader.address)
    granted = time.monotonic() - began
    share = (processor(serving) - used) / (time.monotonic() - before)
    held = [status(one, "VmHWM") for one in (process, serving)]
    faults = [
        f"flood of {what}: the network process held {size} KiB" for size in held if size > LIMIT
    ]
    if heard is None and kind != "victim":
        faults.append(f"flood of {what}: the control plane was not heard in {BOUND:.0f} s")
    if "name" not in said:
        faults.append(f"flood of {what}: no grant: {said}")
    if flood is not None:
        if flood.poll() is not None:
            faults.append(f"flood of {what}: it had ended: {attacker.logs()[-300:]}")
        flood.kill()
    process.kill()
    row = (
        what, f"{heard:.1f} s" if heard is not None else "never", f"{granted:.1f} s",
        *(f"{size / 1024:.0f} MiB" for size in held), f"{share:.0%} of a core",
    )  # fmt: skip
    return row, faults


def _library(lan: Lan, attacker: Node) -> int:
    """KiB that a browser of the library holds after the flood of names."""
    listener = lan.add()
    process = listener.start("tests.hostile.flood", listener.address)
    assert process.stdout is not None
    assert process.stdout.readline() == b"browsing\n", listener.logs()
    _flood(attacker, "names", SECONDS, listener).wait(60)
    return status(process, "VmHWM")


async def _browse(address: str) -> None:
    from zeroconf import IPVersion
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    zeroconf = AsyncZeroconf(interfaces=[address], ip_version=IPVersion.V4Only)
    AsyncServiceBrowser(zeroconf.zeroconf, TYPE, handlers=[lambda **_: None])
    sys.stdout.write("browsing\n")
    sys.stdout.flush()
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(_browse(sys.argv[1]))
