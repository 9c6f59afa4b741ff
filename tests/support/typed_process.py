"""A command as a person types it on a board of folders: ``python -m
tests.support.typed_process ROOT FLEET WORD...``. The board is ``pi_process``'s."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

from nodeagent import paths
from nodeagent.cli.main import main as command_line
from nodeagent.status import model
from tests.support.pi_process import Pi


def main(root: str, fleet: str, *words: str) -> None:
    """Run it."""
    read = partial(model.read, f"{root}{paths.STATUS}")
    with (
        patch("nodeagent.host.host.Host", lambda: Pi(Path(root), Path(fleet))),
        patch("nodeagent.status.model.read", read),
    ):
        command_line(list(words), prog_name="nodeagent")


if __name__ == "__main__":
    main(*sys.argv[1:])
