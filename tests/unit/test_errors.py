"""Every error code is explained, and no explanation is of a code that there is not."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "nodeagent"
PAGE = PACKAGE.parent / "docs" / "errors.md"


def used() -> set[str]:
    """The codes in the package's own text."""
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    return set(re.findall(r"\"(E\d{3})\"", text))


def test_each_code_has_its_part_of_the_page() -> None:
    parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    explained = {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in parts}
    assert len(explained) == len(parts) and list(explained) == sorted(explained)
    assert set(explained) == used(), "docs/errors.md and the package disagree"
    assert all(len(text) > 40 for text in explained.values())
