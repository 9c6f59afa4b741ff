"""Whoever has a worker's card makes crowds of boards that never join; honest boards join meanwhile.

Each crowd goes for one of the bounded pools: tokens and names, from one address or from many, the
turns at the broker, certificate requests. Beside each row stands the same without a crowd, in the
same run.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from nodeagent.trust import fleet_file
from tests.hostile.section import Section
from tests.support.joining import control_plane
from tests.support.virtual_lan import Lan, Node, ip, plugged

BOARDS = 24  # honest ones, from as many addresses, all at once
JOINING = 1.5  # seconds that a kubelet takes here
WARM = 15.0  # seconds a crowd is there before they ask
BOUND = 420.0  # seconds after which a board counts as kept out
MANY = 100  # addresses of a crowd that has many


class Kind(NamedTuple):
    """A crowd: what it does, in words, with how many threads, from how many addresses."""

    what: str
    mode: str
    threads: int
    addresses: int


KINDS = (
    Kind("one address, a new key each time, never joins", "attack-idle", 12, 1),
    Kind(f"{MANY} addresses, a new key each time, never joins", "attack-idle", 24, MANY),
    Kind("each token makes 40 certificate requests", "attack-flood", 3, 3),
)


def run(seed: int) -> Section:
    """No crowd, then each."""
    rows, faults = [], []
    card = fleet_file.make("home")
    lead, worker = card[1], fleet_file.for_workers(card[1])
    for kind in (None, *KINDS):
        with tempfile.TemporaryDirectory() as folder, plugged("nacrwd", Path(folder), lead) as lan:
            row, wrong = _one(lan, Path(folder), worker, kind)
        rows.append(row)
        faults += wrong
    return Section(
        "Crowds with a worker's card",
        f"{BOARDS} honest boards ask at the same moment, {WARM:.0f} s after a crowd of made-up "
        "ones began, with the same kind of card. A kubelet of an honest board takes "
        f"{JOINING:g} s here. Endpoint, broker and clients are the real ones, the API server is a "
        f"double; a board that waits {BOUND:.0f} s counts as kept out.",
        ("crowd", "honest boards in", "p50", "p99"),
        tuple(rows),
        tuple(faults),
    )


def _one(
    lan: Lan, folder: Path, worker: bytes, kind: Kind | None
) -> tuple[tuple[str, ...], list[str]]:
    leader, crowd, boards = control_plane(lan, joining=JOINING), lan.add(), lan.add()
    card = folder / "worker.fleet"
    card.write_bytes(worker)
    ip("-n", leader.space, "route", "replace", "10.77.0.0/16", "dev", "eth0")
    attack = None
    if kind is not None:
        sources = _addresses(crowd, 32, kind.addresses)
        attack = _start(crowd, kind.mode, card, folder, kind.threads, BOUND + WARM, leader, sources)
        time.sleep(WARM)
    honest = _start(boards, "boards", card, folder, BOARDS, BOUND, leader,
                    _addresses(boards, 16, BOARDS))  # fmt: skip
    out, _ = honest.communicate(timeout=BOUND + 60)
    said: dict[str, Any] = json.loads(out or b"{}")
    assert said, boards.logs()
    alive = attack is None or attack.poll() is None
    if attack is not None:
        attack.kill()
        attack.wait(10)
    took = sorted(one for one in said["took"] if one is not None)
    what = kind.what if kind else "none"
    faults = [] if len(took) == BOARDS else [f"crowd, {what}: {BOARDS - len(took)} boards kept out"]
    if not alive:
        faults.append(f"crowd, {what}: it had ended: {crowd.logs()[-300:]}")
    at = (took[len(took) // 2], took[-1]) if took else (BOUND, BOUND)
    row = (what, f"{len(took)} of {BOARDS}", f"{at[0]:.0f} s", f"{at[1]:.0f} s")
    return row, faults


def _addresses(node: Node, third: int, count: int) -> list[str]:
    found = [f"10.77.{third + n // 200}.{1 + n % 200}" for n in range(count)]
    batch = node.host.path("/addresses")
    batch.write_text("".join(f"addr add {address}/32 dev eth0\n" for address in found))
    ip("-n", node.space, "-batch", str(batch))
    return found


def _start(
    node: Node, mode: str, card: Path, folder: Path, count: int, seconds: float, leader: Node,
    sources: list[str],
) -> subprocess.Popen[bytes]:  # fmt: skip
    keys = folder / mode
    keys.mkdir()
    process = node.start(
        "tests.support.crowd_process", mode, str(card), str(keys), str(count), str(seconds),
        leader.address, *sources,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", node.logs()
    return process
