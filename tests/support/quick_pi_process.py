"""As ``pi_process``, with a keeper that looks each half second and announces each second, and whose
own commands (``nodeagent meet``, ``inventory``) are the real ones, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from unittest.mock import patch

from nodeagent.agent.rival_watch import AGENT
from tests.support import pi_process
from tests.support.programs import Answer
from tests.support.virtual_lan import PROJECT

TYPED = "tests.support.typed_process"


class QuickCommands(pi_process.FleetCommands):
    """The agent's own commands are real."""

    def run(self, argv: Sequence[str], stdin: str | None) -> Answer:
        """As the base."""
        if argv[0] != AGENT:
            return super().run(argv, stdin)
        command = (sys.executable, "-m", TYPED, str(self.root), str(self.fleet), *argv[1:])
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


def main(root: str, fleet: str) -> None:
    """A board in a fleet of doubles."""
    with (
        patch("nodeagent.agent.keeper.ROUND", 0.5),
        patch("nodeagent.agent.keeper.RENEW", 1.0),
        patch("nodeagent.agent.keeper.answers", lambda *server: True),  # the API server's double
        patch("tests.support.pi_process.FleetCommands", QuickCommands),
    ):
        pi_process.main(root, fleet)


if __name__ == "__main__":
    main(*sys.argv[1:3])
