"""A fleet whose network processes and brokers are other users', as their units have it."""

from __future__ import annotations

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
