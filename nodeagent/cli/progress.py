"""Shows the progress of long work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nodeagent.imaging.progress import Log, Progress


class Shown:
    """Progress as bars where somebody looks, as lines elsewhere, and in a log."""

    def __init__(self, log_file: Path | None) -> None:
        self._log = Log(log_file)
        self._bar: Any = None
        self._stage = ""

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end_bar()
        self._log.end(error)

    def tell(self, told: Progress) -> None:
        """Show it."""
        self._log.tell(told)
        if told.stage != self._stage:
            self._end_bar()
            self._stage = told.stage
            if told.of:
                self._bar = click.progressbar(length=told.of, label=told.stage)
                self._bar.__enter__()
            else:
                click.echo(told.stage)
        if self._bar is not None:
            self._bar.update(told.done - self._bar.pos)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
