"""A fleet whose network processes and brokers are other users', as their units have it."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.support.boards import BROKER, SERVE, Board, Boards

PROCESS = "tests.support.users_process"
AS = {SERVE: "nodeagent", BROKER: "nodeagent-broker"}


class UsersBoard(Board):
    """``taken_over``: somebody else runs as both of them; nobody starts them again."""

    taken_over = False

    def tend(self) -> None:
        """As the base, which starts the broker again."""
        if not self.taken_over:
            super().tend()
        elif self.node.processes[0].poll() is not None:
            self.start_agent()

    def start_agent(self) -> None:
        """Anew, whether it runs or not."""
        self.end(self.node.processes[0])
        self._start(self.agent, str(self.host.root), str(self.fleet))
        self.node.processes[0] = self.node.processes.pop()

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End one process, with its children."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()

    def take_over(self) -> None:
        """Its network process and broker are gone."""
        self.taken_over = True
        for process in self.node.processes[1:]:
            self.end(process)
        del self.node.processes[1:]

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self.node.start(PROCESS, AS.get(module, "root"), module, *arguments)


class UsersBoards(Boards):
    """A fleet of them."""

    board = UsersBoard
