"""The house of the tests: a file is found by its name, and doubles stand in one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "nodeagent"
EVERYWHERE = {"__init__.py", "__main__.py", "conftest.py"}  # names that Python and pytest give


def test_no_name_stands_twice() -> None:
    places = defaultdict(list)
    for path in sorted(TESTS.rglob("*.py")):
        places[path.name].append(str(path.relative_to(TESTS)))
    twice = [paths for name, paths in places.items() if len(paths) > 1 and name not in EVERYWHERE]
    assert not twice


# These look at the checkout, at the tests themselves or at several packages at once.
OF_NO_PACKAGE = {
    "test_aptrepo.py", "test_defects.py", "test_errors.py", "test_formats.py", "test_fuzz.py",
    "test_guard.py", "test_guide.py", "test_irreversible.py", "test_keytraces.py",
    "test_kubelet_trace.py", "test_lab.py", "test_layout.py", "test_linters.py",
    "test_moves.py", "test_namespaces.py", "test_package.py", "test_pools.py", "test_powercut.py",
    "test_promises.py", "test_results.py", "test_supply.py", "test_tests.py", "test_untouched.py",
}  # fmt: skip


def test_the_unit_tier_mirrors_the_packages() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in (TESTS / "unit").glob("*/test_*.py")}
    assert folders == packages
    assert {path.name for path in (TESTS / "unit").glob("test_*.py")} == OF_NO_PACKAGE


def test_doubles_need_no_tier() -> None:
    found = [
        f"tests/support/{path.name}:{node.lineno}: imports {node.module}"
        for path in sorted((TESTS / "support").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tests.")
        if not str(node.module).startswith("tests.support")
    ]
    assert not found, "\n".join(found)
