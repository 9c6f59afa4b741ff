"""The house of the tests: a file is found by its name, and doubles stand in one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[1]
EVERYWHERE = {"__init__.py", "__main__.py", "conftest.py"}  # names that Python and pytest give


def test_no_name_stands_twice() -> None:
    places = defaultdict(list)
    for path in sorted(TESTS.rglob("*.py")):
        places[path.name].append(str(path.relative_to(TESTS)))
    twice = [paths for name, paths in places.items() if len(paths) > 1 and name not in EVERYWHERE]
    assert not twice


def test_doubles_need_no_tier() -> None:
    found = [
        f"tests/support/{path.name}:{node.lineno}: imports {node.module}"
        for path in sorted((TESTS / "support").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tests.")
        if not str(node.module).startswith("tests.support")
    ]
    assert not found, "\n".join(found)
