"""A virtual Pi as the runner sees it: SSH into it, its power events, its last status."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import lan
from .board import Board, save
from .image import ssh_key
from .place import REPOSITORY, LabError, logs, run_folder


class SshFailed(Exception):
    """A command on a guest failed or the guest cannot be reached."""


@dataclass
class Guest:
    """One board with what runs on it. ``status`` is the agent's own last one, as JSON."""

    board: Board
    status: dict[str, Any] = field(default_factory=dict)
    phases: list[tuple[float, str]] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    samples: int = 0
    first_ssh: float = 0.0

    @property
    def name(self) -> str:
        return self.board.name

    @property
    def phase(self) -> str:
        return str(self.status.get("phase", ""))

    def power_on(self) -> None:
        """Connect the board to its power supply, a process in the lab's namespace."""
        save(self.board)
        with (logs() / f"{self.name}.supply").open("ab") as out:
            subprocess.Popen(
                lan.inside(sys.executable, "-m", "tests.lab.board", str(self.board.description)),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def events(self) -> list[dict[str, Any]]:
        """What the power supply noted so far."""
        try:
            text = self.board.events.read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def power_ons(self) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["event"] == "power-on"]

    @property
    def last_event(self) -> str:
        """The power supply's last word; empty before its first."""
        events = self.events()
        return str(events[-1]["event"]) if events else ""

    @property
    def ready(self) -> bool:
        """The agent says so. Raises LabError where the board will never start again."""
        if self.last_event == "broken":
            raise LabError(f"{self.name} does not start any more.")
        return self.phase == "ready"

    def holds(self, test: str, timeout: float = 60) -> bool:
        """Whether a shell test holds on the guest. Raises SshFailed."""
        said = self.ssh(f"{{ {test}; }} >/dev/null && echo yes || true", timeout)
        return said == "yes\n"

    def reboot(self) -> None:
        """Ask for an orderly reboot; it begins when this has returned."""
        self.ssh("sudo systemd-run --on-active=1 systemctl reboot", check=False)

    def reboot_now(self, bound: float) -> None:
        """The same, and wait until the board is powered on again. Raises LabError."""
        boots = len(self.power_ons())
        self.reboot()
        wait("no reboot", lambda: len(self.power_ons()) > boots, bound, 0.5)
        self.status = {}

    def cut_power(self) -> None:
        """A power cut: what had not reached the card is lost. The supply powers on again."""
        running = [event["pid"] for event in self.events() if event["event"] == "running"]
        if not running:
            raise LabError(f"{self.name} has no power to cut.")
        os.kill(running[-1], signal.SIGKILL)

    def give_way(self, niceness: int) -> None:
        """Let the other boards have the processor first (sched(7), "The nice value": within its
        session by the threads' own value, between sessions by the autogroup's)."""
        for event in [event for event in self.events() if event["event"] == "running"][-1:]:
            process = Path("/proc", str(event["pid"]))
            with contextlib.suppress(FileNotFoundError):  # a kernel without them, too
                (process / "autogroup").write_text(str(niceness))
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it lost power
                for thread in (process / "task").iterdir():
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)

    def ssh_command(self, command: str = "", tty: bool = False) -> list[str]:
        """The ssh command line; one connection is kept and shared by all commands."""
        address = lan.address_of(self.board.mac)
        if address is None:
            raise SshFailed(f"{self.name} has no address yet")
        options = {
            "IdentityFile": str(ssh_key()),
            # The card is new each time, and so is its host key.
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "6",
            "ControlMaster": "auto",
            "ControlPath": str(run_folder() / f"ssh{self.board.index}-{len(self.power_ons())}"),
            "ControlPersist": "300",
        }
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv = ["ssh", *(["-t"] if tty else []), *flags, f"pi@{address}"]
        return lan.inside(*argv, *([command] if command else []))

    def ssh(
        self, command: str, timeout: float = 60, stdin: str | None = None, check: bool = True
    ) -> str:
        """What a shell command printed on the guest. Raises SshFailed."""
        try:
            done = subprocess.run(
                self.ssh_command(command),
                input=stdin if stdin is not None else "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as why:
            raise SshFailed(f"{self.name}: no end within {timeout:g} s: {command}") from why
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-500:]
            raise SshFailed(f"{self.name}: `{command[:120]}` gave {done.returncode}: {said}")
        return done.stdout

    def sudo(self, *argv: str, timeout: float = 120, check: bool = True) -> str:
        """A command as root."""
        return self.ssh("sudo " + shlex.join(argv), timeout=timeout, check=check)

    def kubectl(self, *argv: str, timeout: float = 120) -> str:
        """kubectl with the administrator's credentials (control planes only)."""
        return self.sudo(
            "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *argv, timeout=timeout
        )

    def console_tail(self, lines: int = 20) -> str:
        """The last lines of the serial console."""
        try:
            text = self.board.console.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def wait(what: str, test: Callable[[], bool], seconds: float, pause: float = 2.0) -> float:
    """Wait until ``test`` holds; gives the seconds it took. Raises LabError after the bound."""
    begin = time.monotonic()
    while True:
        try:
            if test():
                return time.monotonic() - begin
        except SshFailed:
            pass
        if time.monotonic() - begin > seconds:
            raise LabError(f"{what}: not within {seconds:.0f} s.")
        time.sleep(pause)
