"""What the texts say happens "by itself", against the test that shows it happening.

Two texts once promised a recovery that never came. So each sentence of that kind stands in one of
the rows below, with the test of what keeps it.
"""

# ruff: noqa: E501  a table
from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
CHECKOUT = TESTS.parent
PACKAGE = CHECKOUT / "nodeagent"
TEXTS = (
    PACKAGE / "doctor" / "recipe.yaml", CHECKOUT / "README.md", CHECKOUT / "docs" / "errors.md",
)  # fmt: skip
PROMISE = r"by (itself|themselves)|Nothing to do: (once|nodeagent)"
INSIST = "unit/agent/test_agent.py::test_what_fails_is_shown_and_tried_until_it_works"
CLUSTER = "cluster/test_real_cluster.py"
APPROVE = "net/test_approve.py::test_a_node_shows_its_code_waits_and_is_let_in"
SEAL = "unit/agent/test_formation.py::test_enrolment_ends_a_day_after_the_cluster_was_made"
RESET = "unit/agent/test_reset.py::test_a_cut_while_the_agent_ends_it"

# How the sentence goes -> the test. The first row that fits counts.
KEPT = {
    r"shows this by itself": "net/test_browser.py::test_it_follows_the_node_without_a_reload",
    r"gives? way by itself": "unit/fleet/test_rivals.py::test_verdicts",
    r"its lines there again": "unit/agent/test_keeper.py::test_names_that_somebody_wrote_over_come_back",
    r"for a while the cluster is told": f"{CLUSTER}::test_f3_a_worker_with_another_address",
    r"gets another address.*by themselves": f"{CLUSTER}::test_f2_a_cupboard_is_carried_to_another_house",
    r"cluster is back by itself": f"{CLUSTER}::test_a_cluster_is_switched_off_and_comes_back",
    r"After a power cut they come back": f"{CLUSTER}::test_a_cluster_outlives_the_loss_of_all_power",
    r"takes workloads by itself": f"{CLUSTER}::test_a_leader_takes_workloads_while_it_is_the_only_node",
    r"boards get in by themselves": f"{CLUSTER}::test_agents_form_a_cluster_from_power_on",
    r"reboots once, by itself": "unit/agent/test_agent.py::test_a_reboot_spoils_no_update_and_no_first_boot",
    r"Renewed by the agent in time, the kubelet's by itself": "unit/cluster/test_renewal.py::test_a_month_ahead_kubeadm_renews_and_the_pods_start_again",
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
    """Each text of the product with such words, and its place; comments and docstrings apart.
    Pages for users and the recipe line by line."""
    pages = [*TEXTS, *sorted((CHECKOUT / "docs" / "how-to").glob("*.md"))]
    for page in pages:
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if re.search(PROMISE, line):
                yield f"{page.relative_to(CHECKOUT)}:{number}", line
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
            if isinstance(node, ast.expr) and re.search(PROMISE, text):
                yield f"{path.relative_to(CHECKOUT)}:{node.lineno}", text


def test_whatever_happens_by_itself_is_shown_to_happen() -> None:
    unkept = [
        f"{place}: {text}"
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
