"""The real agent, as a process of its own whose waiting goes faster: nothing else is changed."""

from __future__ import annotations

import logging
import sys
import time

from nodeagent.agent.main import Agent
from nodeagent.host.host import Clock, Host

SPEED = 20.0


def main() -> None:
    """As agent.main, with another clock."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    clock = Clock(monotonic=lambda: time.monotonic() * SPEED, sleep=lambda s: time.sleep(s / SPEED))
    Agent(Host(clock=clock)).run()


if __name__ == "__main__":
    main()
