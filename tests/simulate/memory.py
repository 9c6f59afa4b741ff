"""A double of the journal: survives power cuts, and power is cut at its writes."""

from __future__ import annotations

from typing import Any


class PowerCut(BaseException):
    """The board lost power in the middle of what it did."""


class Memory:
    """As ``journal.Journal``: ``set`` is durable when it returns. ``fuse`` counts down the writes
    until power is cut, just before (``after`` False) or just after the write reached the card."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.fuse: int | None = None
        self.after = False

    def get(self, name: str, default: Any = None) -> Any:
        """What was set last."""
        return self.values.get(name, default)

    def set(self, **values: Any) -> None:
        """Change values; None removes."""
        cut = self.fuse == 0
        if self.fuse is not None:
            self.fuse -= 1
        if cut and not self.after:
            raise PowerCut
        self.values = {k: v for k, v in {**self.values, **values}.items() if v is not None}
        if cut:
            raise PowerCut

    def note(self, event: str, **details: Any) -> None:
        """For people only."""
