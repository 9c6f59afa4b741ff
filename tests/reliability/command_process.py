"""One of the doubles of commands as a program: notes itself, and may kill who called it.

``PLAN`` names a call ("before" or "after", which time, the command line): the caller is then
killed before anything is done, or after all of it, and the plan is gone.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path

from programs import Commands  # type: ignore[import-not-found]  # beside it, in the namespace

HARNESS = Path("/harness")
CALLS, EVENTS, PLAN, REBOOTING = (HARNESS / n for n in ("calls", "events", "plan", "rebooting"))


def kill_caller() -> None:
    """As if the kernel had to end the agent now."""
    PLAN.unlink()
    os.kill(os.getppid(), signal.SIGKILL)


def main() -> None:
    """Do what the command of this name does."""
    argv = [Path(sys.argv[0]).name, *sys.argv[1:]]
    line = " ".join(argv).replace("\n", " ")
    with CALLS.open("a+") as calls:
        fcntl.flock(calls, fcntl.LOCK_EX)
        calls.seek(0)
        time = calls.read().splitlines().count(line) + 1
        calls.write(f"{line}\n")
    plan = PLAN.read_text() if PLAN.exists() else ""
    if plan == f"before\t{time}\t{line}":
        kill_caller()
        sys.exit(1)
    commands = Commands(Path("/"), HARNESS / "store", lambda seconds: None)
    if argv[0] == "sync" or argv == ["systemctl", "reboot"]:
        answer = 0, "", ""
        if argv[0] == "systemctl":
            REBOOTING.touch()
    else:
        answer = commands.run(argv, "" if sys.stdin.isatty() else sys.stdin.read())
    with EVENTS.open("a") as events:
        events.writelines(f"{event}\n" for event in commands.ledger)
    if plan == f"after\t{time}\t{line}":
        kill_caller()
    sys.stdout.write(answer[1])
    sys.stderr.write(answer[2])
    sys.exit(answer[0])
