"""Shows live what the nodes do: one line an event, with elapsed seconds and node name.

Before SSH is up a node speaks through its power supply; afterwards one lasting SSH connection a
node repeats the agent's status file as it changes. A fresh `nodeagent status` every second would
cost an emulated processor more than the work it reports on.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

from .guest import Guest, SshFailed
from .place import say

# kubeadm's token; its secret half is random, so one without a digit does not occur in practice.
TOKEN = r"(^|[^a-z0-9.-])[a-z0-9]{6}\.[a-z0-9]{16}([^a-z0-9.-]|$)"
# Shell built-ins only: a `sleep` and a `cat` each second were a fifth of an emulated processor. It
# sleeps by waiting for input that never comes.
FOLLOW = r"""
while read -r -t 2 nothing || [ $? -gt 128 ]; do
    [ -r /run/nodeagent/status.json ] || continue
    read -r s < /run/nodeagent/status.json
    [ "$s" = "$old" ] || printf 'status %s\n' "$s"
    old=$s
done
"""
# A look at the command lines of all processes, as `ps` shows them.
SAMPLE = f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -aoE '{TOKEN}' || true"
WAITS = 10  # nice value of a board that waits for another: about a tenth of the other's share
SAMPLE_PERIOD = 3.0  # seconds; kubeadm join takes tens of them here


class Watch:
    """Follows all guests in threads until stopped."""

    def __init__(self, guests: Sequence[Guest]) -> None:
        self._guests = guests
        self._stop = threading.Event()
        self._streams: dict[str, subprocess.Popen[str]] = {}

    def start(self) -> None:
        for guest in self._guests:
            for work in (self._power, self._agent):
                threading.Thread(target=work, args=(guest,), daemon=True).start()
        threading.Thread(target=self._sample, daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        for stream in self._streams.values():
            stream.kill()

    def _power(self, guest: Guest) -> None:
        seen = 0
        while not self._stop.is_set():
            events = guest.events()
            for event in events[seen:]:
                self._show_power(guest, event)
            seen = len(events)
            self._stop.wait(0.5)

    def _show_power(self, guest: Guest, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "power-on":
            enabled = "cgroup_disable=memory" not in event["arguments"]
            say(f"power on; memory cgroup {'enabled' if enabled else 'missing'}", guest.name)
        elif kind == "running":
            return
        else:
            words = {"reboot": "reboots", "off": "turned itself off", "cut": "lost power"}
            say(words.get(kind, f"broken: {event.get('why') or event.get('code')}"), guest.name)
        guest.phases.append((event["at"], kind))
        if kind in ("cut", "reboot") and guest.name in self._streams:
            # The machine behind it is gone; ssh would notice in a minute only.
            self._streams[guest.name].kill()
            guest.status = {}

    def _agent(self, guest: Guest) -> None:
        boot = 0
        while not self._stop.is_set():
            try:
                command = guest.ssh_command(FOLLOW)
                guest.ssh("true", timeout=20)
            except SshFailed:
                self._stop.wait(1)
                continue
            if boot != len(guest.power_ons()):
                boot = len(guest.power_ons())
                guest.first_ssh = guest.first_ssh or time.time()
                say("answers on SSH", guest.name)
            stream = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
            self._streams[guest.name] = stream
            assert stream.stdout is not None
            for line in stream.stdout:
                self._line(guest, line)
            stream.wait()
            self._stop.wait(1)

    def _line(self, guest: Guest, line: str) -> None:
        kind, _, rest = line.strip().partition(" ")
        if kind == "status":
            try:
                status = json.loads(rest)
            except ValueError:
                return
            before, guest.status = guest.status, status
            self._show(guest, before, status)

    def _sample(self) -> None:
        """While any node joins, look for tokens in the command lines on all nodes."""
        while not self._stop.wait(SAMPLE_PERIOD):
            if not any(guest.phase == "joining" for guest in self._guests):
                continue
            for guest in self._guests:
                try:
                    found = guest.ssh(SAMPLE, 30).splitlines()
                except SshFailed:
                    continue
                guest.samples += 1
                guest.leaks += [one for one in found if has_digit(one)]

    def _share(self) -> None:
        """Real boards share no processor: one that only waits must not slow the one that makes the
        control plane."""
        busy = any(guest.phase == "initialising" for guest in self._guests)
        for guest in self._guests:
            guest.give_way(WAITS if busy and guest.phase != "initialising" else 0)

    def _show(self, guest: Guest, before: dict[str, Any], now: dict[str, Any]) -> None:
        phase, detail = now.get("phase", ""), now.get("detail", "")
        if phase != before.get("phase"):
            guest.phases.append((time.time(), phase))
            self._share()
            say(f"{phase.upper()}: {detail}", guest.name)
        elif _short(detail) != _short(before.get("detail", "")):
            say(f"  {_short(detail)}", guest.name)
        error = now.get("error")
        if error and error != before.get("error"):
            say(f"  {error['reason']} {error['remedy']} ({error['code']})", guest.name)


def _short(detail: str) -> str:
    """A step with its action, without the action's small print."""
    return detail if len(detail) <= 110 else f"{detail[:107]}..."


def has_digit(match: str) -> bool:
    """Whether the secret half has one, as every real token's has."""
    return any(letter.isdigit() for letter in match.strip().rpartition(".")[2])
