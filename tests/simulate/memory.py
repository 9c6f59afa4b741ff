"""A double of the journal: survives power cuts, and power is cut at its writes."""

from __future__ import annotations

from typing import Unpack

from nodeagent.statefile import State, empty


class PowerCut(BaseException):
    """The board lost power in the middle of what it did."""


class Memory:
    """As ``journal.Journal``: ``set`` is durable when it returns. ``fuse`` counts down the writes
    until power is cut, just before (``after`` False) or just after the write reached the card."""

    def __init__(self) -> None:
        self.values = empty()
        self.fuse: int | None = None
        self.after = False

    def set(self, **values: Unpack[State]) -> None:
        """Change values; None removes."""
        cut = self.fuse == 0
        if self.fuse is not None:
            self.fuse -= 1
        if cut and not self.after:
            raise PowerCut
        self.values = {**self.values, **values}
        if cut:
            raise PowerCut

    def note(self, event: str, **details: object) -> None:
        """For people only."""
