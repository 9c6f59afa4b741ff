"""What one part of `make hostile` found: a section of docs/security.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """``text`` and a table in Markdown; ``faults`` are sentences, each a broken promise."""

    title: str
    text: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    faults: tuple[str, ...] = ()

    def render(self) -> str:
        """The section as Markdown."""
        lines = [f"## {self.title}", "", self.text.strip(), ""]
        if self.head:
            lines += [_row(self.head), _row(("---",) * len(self.head)), *map(_row, self.rows), ""]
        return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
