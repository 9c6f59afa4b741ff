"""The real agent with the real kubeadm: ``python -m tests.cluster.kubeadm_pi ROOT FLEET [keeper]``.

As ``tests/support/pi_process.py``, but kubeadm, kubectl and etcd's tools are the real ones, the
API server is asked for real, and the keeper is a process of its own, as by execve(2). The packages,
images and crictl stay doubles; crictl's list and stop reach the static pods. Only the agent's
clock can be wrong, not that of Kubernetes' programs.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from nodeagent.agent import all_off, follow
from nodeagent.agent.keeper import KEYS_BOUND
from nodeagent.agent.rival_watch import AGENT
from nodeagent.cluster import only_node
from nodeagent.host.facts import Facts
from nodeagent.host.host import Clock, Host, Result, run_process
from nodeagent.host.timesync import SYNCHRONISED
from nodeagent.steps import show
from tests.cluster import sandbox
from tests.cluster.kubelet_process import SPEED
from tests.support import pi_process, resolver
from tests.support.programs import Answer

# What fails in the sandbox and not on a board: there is no container runtime behind the socket
# (CRI, ContainerRuntimeVersion, ImagePull), and no cgroups are mounted (SystemVerification).
IGNORED = "CRI,ContainerRuntimeVersion,ImagePull,SystemVerification"
KUBELET = ("kubelet", "kubelet.service")
BOUND = 900.0  # seconds for one command; the agent's own bounds are for a Pi


class RealCommands(pi_process.FleetCommands):
    """The commands of one machine, Kubernetes' own among them real."""

    def boot(self, number: int) -> None:
        """As the base; each board's each boot has an id of its own."""
        super().boot(number)
        self.write("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n")
        if self.text(sandbox.CLOCK):
            self.remove(SYNCHRONISED)
            self.write("/proc/uptime", "300.00 400.00\n")  # it has waited for one

    @property
    def off(self) -> float:
        """By how many seconds this board's clock is off."""
        return float(self.text(sandbox.CLOCK) or 0)

    def run(self, argv: Sequence[str], stdin: str | None) -> Answer:
        """As the base for what is a double."""
        words = tuple(argv)
        if words[0] in sandbox.COMMANDS:
            return self._real(words, stdin)
        if words[0] == "systemctl" and words[-1] in KUBELET:
            if words[1] in ("start", "restart"):
                self._start_kubelet()
            elif words[1] == "stop":
                self.write(sandbox.WANTED, "off")
            if words[1] in ("restart", "stop"):
                self.remove(sandbox.CMDLINE)
        if words[0] == "systemd-run" and "date" in words:
            self.write(sandbox.CLOCK, str(float(words[-1].partition("@")[2]) - time.time()))
        if words == ("pidof", "kubelet"):
            return (0, f"{sandbox.PID}\n", "") if self.text(sandbox.CMDLINE) else (1, "", "")
        if words[0] == "ip":
            shown = run_process(words, BOUND, stdin)
            return shown.status, shown.out, shown.err
        if words == (AGENT, "seek"):
            return *follow.seek(Host(self.root)), ""
        if words == (AGENT, "only-node"):
            host = Host(self.root, self._bounded)
            return int(not only_node.fit(host, Facts(host).node_name)), "", ""
        if words[:2] == ("crictl", "ps"):
            name = words[-1].strip("^$").rpartition("=")[2]
            return 0, f"{name}\n" if self.path(f"{sandbox.RUNS}/{name}").exists() else "", ""
        if words[:2] == ("crictl", "stop"):
            for name in words[2:]:
                self.write(f"{sandbox.STOP}/{name}", "")
                self.remove(f"{sandbox.RUNS}/{name}")
        return super().run(argv, stdin)

    def _bounded(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        """As a process of the keeper's, which ends it after a while."""
        return run_process(sandbox.whole(self.root, *argv), KEYS_BOUND / SPEED / 2, stdin)

    def _real(self, words: tuple[str, ...], stdin: str | None) -> Answer:
        verb = words[1] if words[0] == "kubeadm" else ""
        changes = verb in ("init", "join", "reset") and words[2] != "phase"
        more = (f"--ignore-preflight-errors={IGNORED}",) if changes else ()
        if verb == "reset":  # it stops them by the container runtime
            self.write(sandbox.WANTED, sandbox.NONE)
        done = run_process(sandbox.whole(self.root, *words, *more), BOUND, stdin)
        if changes:
            self.ledger.append(f"kubeadm {verb} {'failed' if done.status else 'done'}")
        return done.status, done.out, done.err

    def _start_kubelet(self) -> None:
        self.write(sandbox.WANTED, f"on {os.getpid()} {time.time_ns()}")

    def _configured(self, packages: dict[str, tuple[str, str, str]]) -> Answer:
        answer = super()._configured(packages)
        if self._installed("kubelet"):  # its package enables it
            self._enable(("systemctl", "enable", "--now", "kubelet.service"))
        return answer


class KubeadmPi(pi_process.Pi):
    """A board whose commands are the real ones."""

    def __init__(self, root: Path, fleet: Path) -> None:
        super().__init__(root, fleet)
        self.commands: RealCommands = RealCommands(root, fleet)
        self.clock = Clock(
            now=lambda: time.time() + self.commands.off,
            monotonic=lambda: time.monotonic() * SPEED,
            sleep=lambda s: time.sleep(s / SPEED),
        )

    def become(self, *argv: str) -> NoReturn:
        """The keeper, or the agent again: this module anew, which leaves no thread behind."""
        part = ["keeper"] if argv[-1].endswith("keeper") else []
        os.execv(sys.executable, [*sys.orig_argv[:5], *part])


def main(root: str, fleet: str, part: str = "agent") -> None:
    """As agent.main, or as keeper.main; ``part`` "off": `nodeagent fleet off --yes`, "plan":
    `nodeagent plan`."""
    resolver.install(Path(root))
    pi = KubeadmPi(Path(root), Path(fleet))
    if part == "plan":
        sys.stdout.writelines(f"{line}\n" for line in show.show_plan(pi)[0])
        return
    if part == "off":
        all_off.off(pi, all_off.others(pi), print)
    pi_process.run(pi, {}, part)
    pi.become("agent")


if __name__ == "__main__":
    main(*sys.argv[1:])
