"""``python3 -m tests.lab run|shell|down``: virtual Raspberry Pis on this machine.

``run`` makes what is missing, powers on, shows what happens, checks, and ends with 0 when every
check passed. NODES, ARCH (amd64, arm64), MIRROR (built, upstream), ROLE_1 ... (auto,
control-plane, worker), CNI (a pod network), SCENARIO, KEEP=1 and LAB_MINUTES come from the
environment.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

from . import board, cluster, results
from .guest import Guest, SshFailed
from .place import Asked, LabError, cache, logs, need_root, run_folder, say
from .scenarios import SCENARIOS


def run(names: list[str]) -> int:
    """Play the scenarios one after the other."""
    asked = Asked.from_environment()
    lock = cluster.alone()
    lab = cluster.Cluster(asked)
    failed: list[str] = []
    try:
        lab.prepare()
        bound = threading.Timer(asked.minutes * 60 * len(names), _out_of_time)
        bound.daemon = True
        bound.start()
        for name in names:
            say(f"scenario {name}")
            outcome = SCENARIOS[name](lab)
            failed += [f"{name}: {check}" for check, (passed, _) in outcome.items() if not passed]
        bound.cancel()
    except (LabError, SshFailed, OSError, subprocess.SubprocessError) as why:
        failed.append(str(why))
    except KeyboardInterrupt:
        failed.append("interrupted")
    say("passed" if not failed else f"FAILED: {'; '.join(failed)}")
    if failed:
        autopsy(lab)
    if asked.keep:
        lab.release()
        say("the machines live on: python3 -m tests.lab shell N, and down to end them")
    else:
        if lab.guests and failed:
            results.gather_logs(lab, logs())
        lab.end()
        say(f"logs are in {cache() / 'last-logs'}")
    lock.close()
    return 1 if failed else 0


def _out_of_time() -> None:
    print("the lab ran out of time (LAB_MINUTES)", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGINT)


def autopsy(lab: cluster.Cluster) -> None:
    """What to look at first, of every node that is not Ready."""
    for guest in lab.guests:
        print(f"--- {guest.name}, serial console\n{guest.console_tail()}")
        for command in ("nodeagent status", "sudo journalctl -u nodeagent -n 50 --no-pager"):
            try:
                print(f"--- {guest.name}$ {command}\n{guest.ssh(command, 60, check=False)}")
            except SshFailed as why:
                print(f"--- {why}")
    sys.stdout.flush()


def shell(index: int) -> int:
    """An interactive shell on a node."""
    description = run_folder() / f"node{index}.json"
    if not description.exists():
        raise LabError(f"There is no node {index}: start the lab first, with KEEP=1 to keep it.")
    return subprocess.call(Guest(board.load(description)).ssh_command(tty=True))


def _end(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runner = verbs.add_parser("run")
    wanted = os.environ.get("SCENARIO") or "default"
    runner.add_argument("--scenario", default=wanted, help=f"{', '.join(SCENARIOS)}; with commas")
    verbs.add_parser("shell").add_argument("node", type=int)
    verbs.add_parser("down")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    try:
        need_root()
        if asked.verb == "shell":
            return shell(asked.node)
        if asked.verb == "down":
            cluster.down()
            return 0
        names = asked.scenario.split(",")
        unknown = [name for name in names if name not in SCENARIOS]
        if unknown:
            raise LabError(f"No scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}.")
        return run(names)
    except (LabError, SshFailed) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
