"""Progress of long work on images: for progress bars, and for logs that programs read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from nodeagent.errors import NodeAgentError, of_command


@dataclass(frozen=True)
class Progress:
    """``done`` of ``of`` in this stage, both in the same unit; ``of`` is 0 where nobody knows."""

    stage: str
    done: int = 0
    of: int = 0

    @property
    def ends(self) -> bool:
        """The last of its stage."""
        return 0 < self.of <= self.done


Tell = Callable[[Progress], None]


class Log:
    """A JSON object a line (jsonlines.org): where a stage begins and ends, with the time, and at
    last ``finished`` or ``failed`` with the error's code, reason and remedy. None: no log."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("w") if path else None
        self._stage = ""

    def tell(self, told: Progress) -> None:
        """Note it, unless it is in the middle of a stage."""
        if told.stage != self._stage or told.ends:
            self._stage = told.stage
            self._note(**asdict(told))

    def end(self, error: BaseException | None) -> None:
        """The last line."""
        if isinstance(error, OSError):
            error = of_command(error, on_node=False)
        if isinstance(error, NodeAgentError):
            self._note(failed=error.code, reason=error.reason, remedy=error.remedy)
        elif error is not None:
            reason = str(error) or type(error).__name__
            self._note(failed=NodeAgentError.code, reason=reason, remedy="")
        else:
            self._note(finished=True)
        if self._file:
            self._file.close()

    def _note(self, **what: object) -> None:
        if self._file:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._file.write(json.dumps({"time": now, **what}) + "\n")
            self._file.flush()
