"""A formed fleet is given other addresses, in any order, with the power cut in between, or comes
back from a blackout: ``python -m tests.cluster.renumbering RUNS``, ``make moves``.

Each run follows from its seed alone. In the end every node must be Ready at its last address, in
the same cluster, with all that was in it, no file may have an address of before, and every agent be
at rest. A run that fails is told with its story; the status is 1 then.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import SubprocessError
from typing import NamedTuple

from nodeagent import paths
from nodeagent.cluster import kubeadm, names
from nodeagent.cluster.addresses import endpoint
from nodeagent.join import statement
from nodeagent.trust import jws
from tests.cluster import played, sandbox
from tests.cluster.kubelet_process import RENEW, SPEED
from tests.cluster.real_boards import RealBoard, RealBoards, Story, copy, fleet, form
from tests.support.machine import fast_folder

SUBNETS = ("10.77.0", "192.168.9", "172.22.4")
SIDE_BY_SIDE = 12  # fleets; they wait most of the time
BOUND = 240.0  # seconds from the last event until all must be well
REST = 1.2 * RENEW  # seconds that it has to stay so: each kubelet has told how it is once more
BEHIND = 60.0  # seconds that a clock without battery may be behind, after some without power
IDLE = "Nothing to do: every step holds."
# All that names an address of a node (docs/reference/addresses.md).
LASTING_FILES = (
    paths.HOSTS, paths.ADMIN_CONF, *names.KUBECONFIGS, paths.KUBELET_FLAGS, names.API_SERVER,
    names.ETCD, kubeadm.INIT_FILE,
)  # fmt: skip


class Event(NamedTuple):
    """After ``wait`` seconds of a board's: it gets an address, or its power on ("1970": with such a
    clock) or off."""

    wait: float
    board: int
    what: str


def events(seed: int, boards: int) -> list[Event]:
    """One to three moves of everything or of one board, and cuts at any instant; in one of four a
    last one while the boards start."""
    draw = random.Random(seed)
    told = []
    powered = draw.random() < 0.5
    told += [Event(0, board, "on") for board in range(boards) if powered]
    subnet, everything = SUBNETS[0], list(range(boards))
    for move in range(draw.choice((1, 1, 1, 2, 3))):
        moving = draw.choice(([0], [1], [*everything], [*everything]))
        draw.shuffle(moving)
        if len(moving) == boards:  # one board alone stays with the others
            subnet = draw.choice(SUBNETS)
        for board in moving:
            address = f"{subnet}.{20 + 20 * move + board + 3 * draw.randrange(4)}"
            told.append(Event(draw.uniform(0, 6), board, address))
        if draw.random() < 0.7:
            cut = draw.randrange(boards)
            told.append(Event(draw.uniform(0, 40), cut, "off"))
            told.append(Event(draw.uniform(0, 8), cut, "on"))
    told += _back(draw, boards)
    if draw.random() < 1 / 4:  # a router that is slower than the boards
        last = f"{subnet}.{90 + draw.randrange(9)}"
        told.append(Event(draw.uniform(0, 40), draw.randrange(boards), last))
    return told


def blackouts(seed: int, boards: int) -> list[Event]:
    """All boards have lost their power, and in one of four they lose it again while they start. In
    one of five no board has a battery for its clock, nor a time server."""
    draw = random.Random(seed)
    told = _back(draw, boards)
    if draw.random() < 1 / 4:
        first, *others = (Event(0, board, "off") for board in range(boards))
        told += [first._replace(wait=draw.uniform(0, 30)), *others, *_back(draw, boards)]
    if seed % 5 == 0:
        told = [one._replace(what="1970") if one.what == "on" else one for one in told]
    return told


def _back(draw: random.Random, boards: int) -> list[Event]:
    """The power of all comes back in any order, in one of three of the last one late."""
    order = draw.sample(range(boards), boards)
    told = [Event(draw.uniform(0, 15), board, "on") for board in order]
    if draw.random() < 1 / 3:
        told[-1] = told[-1]._replace(wait=draw.uniform(30, 90))
    return told


def run(told: Sequence[Event], made: RealBoards, formed: Story) -> tuple[str, float]:
    """Play it: what is wrong in the end, empty for nothing, and how long after the last event."""
    known = {name: made.all[number].node.address for number, name in enumerate(formed.ready)}
    for event in told:
        made.until(lambda: False, event.wait / SPEED)
        board = made.all[event.board]
        if event.what in ("on", "1970"):
            if not board.powered:
                board.power_on(event.what == "1970")
        elif event.what == "off":
            board.power_off()
        else:
            made.renumber(board, event.what)
            known[list(formed.ready)[event.board]] = event.what
    began = time.monotonic()
    # The boards' own words first: each look at Kubernetes costs more than all the rest.
    well = made.until(lambda: made.formed and made.ready == known, BOUND)
    took = time.monotonic() - began
    if not well or made.until(lambda: False, REST) or made.ready != known:
        return f"Ready are {made.ready}, expected {known}\n{made.story()}", took
    return wrong(made, formed), took


def wrong(made: RealBoards, formed: Story) -> str:
    """What a cluster that is Ready has lost, did again or kept of before; empty for nothing."""
    if made.uid != formed.uid:
        return "it is another cluster"
    if made.ca != formed.ca:
        return "the cluster has another CA"
    if lost := formed.objects - made.objects:
        return f"lost: {sorted(lost)}"
    if [board.events for board in made.all] != formed.events:
        return f"kubeadm was at work again: {[board.events for board in made.all]}"
    for board in made.all:
        if (off := float(board.host.text(sandbox.CLOCK) or 0)) < -BEHIND:
            return f"a board's clock is {-off:.0f} s behind"
        # Files have the time of the kernel's clock, so such a board has always something to set.
        if not off and (left := board.plan) != IDLE:
            return f"a board has this to do: {left}"
        if board.host.exists(paths.ADMIN_CONF) and told(board) != [endpoint(board.node.address)]:
            return f"those who join are sent to {told(board)}, not {board.node.address}"
    gone = set(formed.ready.values()) - set(made.ready.values())
    kept = made.leader.objects("configmaps", "--all-namespaces")
    if naming := [one["metadata"]["name"] for one in kept if names_one(str(one.get("data")), gone)]:
        return f"of before are addresses in the ConfigMaps {naming}"
    return "\n".join(
        f"{path}: {line}"
        for board in made.all
        for path in LASTING_FILES
        for line in (board.host.text(path) or "").splitlines()
        if names_one(line, gone)
    )


def names_one(text: str, addresses: set[str]) -> bool:
    """Whether one of these addresses stands in it as a whole."""
    return any(re.search(rf"(?<![\d.]){re.escape(one)}(?![\d.])", text) for one in addresses)


def told(board: RealBoard) -> list[str]:
    """Where a control plane's agent says that the API server is."""
    config = json.loads(board.host.text(paths.BROKER_CONFIG) or "{}")
    said = jws.peek(config["cluster"].encode(), statement.CLUSTER_TYPE)
    return [str(one) for one in said["endpoints"]]


def formed_fleet(place: Path) -> Story:
    """A control plane and a worker, formed by the agents and saved without power in ``place``."""
    with fleet() as made:
        made.add(2, role="control-plane", name="leads")
        made.add(2, role="worker", name="works")
        story = form(made)
        made.save(place)
        return story


def main() -> int:
    """Play so many, told one a line. Status 1 where one failed, 2 where it cannot be played."""
    asked = argparse.ArgumentParser(prog="python -m tests.cluster.renumbering", description=__doc__)
    asked.add_argument("runs", type=int)
    asked.add_argument("--seed", type=int, default=1, help="of the first run")
    asked.add_argument("--what", choices=DRAWN, default="moves")
    asked.add_argument("--record", action="store_true", help="add a row to docs/moves.md")
    asked.add_argument("--keep", type=Path, metavar="FOLDER", help="for what failed runs left")
    given = asked.parse_args()
    if lacking := sandbox.missing():
        sys.stderr.write(f"{lacking}\n")
        return 2
    draw, seeds = DRAWN[given.what], range(given.seed, given.seed + given.runs)
    began, times, faults = time.monotonic(), [], {}
    with fast_folder() as place, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        story = formed_fleet(place)

        def one(number: int) -> tuple[int, str, float]:
            with fleet(place) as made:
                try:
                    fault, took = run(draw(number, len(made.all)), made, story)
                except (OSError, SubprocessError) as error:
                    fault, took = f"it could not be played to its end: {error!r}", BOUND
                if fault and given.keep:
                    kept = given.keep / str(number)
                    kept.mkdir(parents=True)
                    copy(made.folder, kept)
                return number, fault, took

        for number, fault, took in pool.map(one, seeds):
            times.append(took)
            if fault:
                faults[number] = fault
            sys.stdout.write(f"{number}: {fault or f'well after {took:.0f} s'}\n")
            sys.stdout.flush()
    row = played.Row.of(given.what, seeds, times, faults, time.monotonic() - began)
    sys.stdout.write(
        f"{len(faults)} of {given.runs} failed; seconds to Ready, median {row.median:g}, p99"
        f" {row.p99:g}, the longest {row.longest:g}\n"
    )
    if given.record:
        played.add(row)
    return 1 if faults else 0


DRAWN = {"moves": events, "blackouts": blackouts}

if __name__ == "__main__":
    sys.exit(main())
