"""What the texts say happens "by itself", against the test that shows it happening.

Two texts once promised a recovery that never came. So each sentence of that kind stands in one of
the rows below, with the test of what keeps it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "nodeagent"
INSIST = "unit/agent/test_agent.py::test_what_fails_is_shown_and_tried_until_it_works"
CLUSTER = "cluster/test_real_cluster.py"
APPROVE = "net/test_approve.py::test_a_node_shows_its_code_waits_and_is_let_in"
SEAL = "unit/agent/test_formation.py::test_enrolment_ends_a_day_after_the_cluster_was_made"
RESET = "unit/agent/test_reset.py::test_a_cut_while_the_agent_ends_it"

# How the sentence goes -> the test. The first row that fits counts.
KEPT = {
    r"shows this by itself": "net/test_browser.py::test_it_follows_the_node_without_a_reload",
    r"gives? way by itself": "unit/fleet/test_rivals.py::test_verdicts",
    r"looks for it by itself": "net/test_follow.py::test_it_follows_a_beacon_that_is_proved",
    r"find a control plane by themselves": f"{CLUSTER}::test_f1_a_leader_with_another_address",
    r"joins? by (itself|themselves)": APPROVE,
    r"no new nodes by itself|happens by itself 24 hours": SEAL,
    r"(goes|ends it) .*by itself.*(status|reset|power)": RESET,
    r"It restarts by itself": f"{CLUSTER}::test_a_cluster_outlives_the_loss_of_all_power",
    r"asks for a new grant by itself|again by itself|(goes on|does it|does that) by itself": INSIST,
    r"goes\W+on by itself|on by itself": INSIST,
}
# Not of what the program does.
NO_PROMISE = (
    r"does not tell it by itself",  # how Imager customises
    r"Becomes a node of the fleet",  # what an image is for; the lab
    r"board that hangs restarts by itself",  # the watchdog; the lab looks whether it is armed
)


def sentences() -> Iterator[tuple[str, str]]:
    """Each text of the product with such words, and its place; comments and docstrings apart."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        described = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        inside: set[int] = set()
        for node in ast.walk(tree):
            text = ""
            if isinstance(node, ast.JoinedStr):
                inside |= {id(part) for part in node.values}
                parts = (part.value for part in node.values if isinstance(part, ast.Constant))
                text = "…".join(map(str, parts))
            elif isinstance(node, ast.Constant) and id(node) not in described | inside:
                text = str(node.value)
            if isinstance(node, ast.expr) and re.search(r"by (itself|themselves)", text):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text


def test_whatever_happens_by_itself_is_shown_to_happen() -> None:
    unkept = [
        f"nodeagent/{place}: {text}"
        for place, text in sentences()
        if not any(re.search(pattern, text) for pattern in (*NO_PROMISE, *KEPT))
    ]
    assert not unkept, "no row in KEPT says what keeps this:\n" + "\n".join(unkept)


def test_the_tests_that_keep_it_are_there() -> None:
    missing = []
    for place in set(KEPT.values()):
        path, _, name = place.partition("::")
        file = TESTS / path
        if not file.exists() or f"def {name}(" not in file.read_text():
            missing.append(place)
    assert not missing


def test_no_row_is_idle() -> None:
    texts = [text for _, text in sentences()]
    idle = [row for row in (*KEPT, *NO_PROMISE) if not any(re.search(row, text) for text in texts)]
    assert not idle
