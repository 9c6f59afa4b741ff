"""Every bounded pool of the product: whose share it has, and when what it holds lapses.

A pool without them is a place where whoever comes first keeps everybody else out. The table names
the constant that bounds it; a new bound of that form has to be put here, with a test that fills it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.test_layout import MODULES, TREES

UNIT = Path(__file__).parent
# Constants that bound a pool, by their names; those of one message or file bound no crowd.
BOUND = re.compile(
    r"(MAX|MOST)_(NAMES|NAMES_EACH|TOKENS|WAITING|PEOPLES|ADMISSIONS|RESERVED|REQUESTS|DENIED|"
    r"OUTSTANDING|CANDIDATES|PAGES)|PLACES|SHARE|SHARE_OF_NAMES|AT_THE_BROKER|ADDRESSES|AT_ONCE"
)

# Bound: for whom there is a share, when a place lapses, the test that fills it.
POOLS: dict[str, tuple[str, str, str]] = {
    "broker.places.PLACES": (
        "kind of asker and address", "10 minutes, 1 where it is unused",
        "broker/test_places.py::test_many_addresses_keep_a_board_out_for_minutes_only",
    ),
    "broker.places.SHARE": (
        "kind of asker", "as the places",
        "broker/test_places.py::test_members_and_approved_ones_get_a_place_at_once",
    ),
    "broker.places.ADDRESSES": (
        "address, the oldest go", "an hour",
        "broker/test_places.py::test_what_is_remembered_of_addresses_is_bounded_and_lapses",
    ),
    "broker.ledger.MAX_TOKENS": (
        "key: the newest second only", "2 minutes; beyond it the oldest",
        "broker/test_places.py::test_one_key_that_asks_without_end_fills_nothing",
    ),
    "broker.ledger.MAX_NAMES_EACH": (
        "key", "as certificates", "broker/test_broker.py::test_one_key_cannot_take_all_names",
    ),
    "broker.ledger_file.SHARE_OF_NAMES": (
        "issuer, person", "a claim in 10 minutes, a certificate a year after it was barred",
        "broker/test_places.py::test_names_of_one_issuer_used_up_leave_those_of_the_other_and_of_people",
    ),
    "broker.ledger_file.MAX_NAMES": (
        "the three shares", "as certificates",
        "broker/test_places.py::test_further_names_of_a_member_are_of_its_first_ones_share",
    ),
    "broker.ledger_file.MAX_ADMISSIONS": (
        "none is needed: the oldest go, memberships stay", "by the next ones",
        "broker/test_rights.py::test_all_that_hold_a_right_are_listed_to_the_last",
    ),
    "broker.ledger_file.MAX_PEOPLES": (
        "a person, who typed each", "an approval in a day, a revocation by approving",
        "broker/test_operators.py::test_what_people_say_is_bounded",
    ),
    "broker.ledger_file.MAX_RESERVED": (
        "the cluster's administrator, who alone makes control planes", "by the next ones",
        "broker/test_rights.py::test_a_control_planes_name_is_never_given",
    ),
    "broker.broker.MAX_REQUESTS": (
        "token", "with the token",
        "broker/test_places.py::test_a_token_that_makes_many_requests_is_taken_away",
    ),
    "broker.broker.MAX_DENIED": (
        "none is needed: the rest is denied at the next look", "a second",
        "broker/test_places.py::test_strays_are_denied_a_few_at_a_time_and_other_peoples_are_left_alone",
    ),
    "broker.kube_api.MOST_PAGES": (
        "none: nobody is let in beside a list that was not read to its end", "as objects go",
        "broker/test_kube_api.py::test_a_list_without_end_is_no_list",
    ),
    "join.approval.MAX_WAITING": (
        "address, then the lot", "15 minutes after it last asked",
        "join/test_waiting.py::test_a_crowd_does_not_hide_who_waits",
    ),
    "join.waiting_file.MAX_TOKENS": (
        "as the places, which it shows", "as the places",
        "broker/test_places.py::test_many_addresses_keep_a_board_out_for_minutes_only",
    ),
    "serve.endpoint.AT_THE_BROKER": (
        "address", "15 s to wait, 40 s to be answered",
        "serve/test_connections.py::test_one_address_gets_a_share_of_the_turns",
    ),
    "serve.endpoint.SHARE": (
        "address", "as the turns",
        "serve/test_connections.py::test_one_address_gets_a_share_of_the_turns",
    ),
    "serve.retry_after.ADDRESSES": (
        "address: how often it comes counts once", "30 s",
        "join/test_search.py::test_one_address_makes_nobody_else_wait",
    ),
    "serve.connections.PLACES": (
        "address", "a minute; 1.5 s where others want the place",
        "serve/test_connections.py::test_a_newcomer_gets_in_though_strangers_hold_all_places",
    ),
    "serve.connections.SHARE": (
        "address", "as the places",
        "serve/test_connections.py::test_one_address_gets_a_share_only",
    ),
    "serve.status_page.PLACES": (
        "address", "a minute",
        "serve/test_connections.py::test_one_address_gets_a_share_only",
    ),
    "serve.status_page.SHARE": (
        "address", "a minute",
        "serve/test_connections.py::test_one_address_gets_a_share_only",
    ),
}  # fmt: skip
# Of the same form, and no pool: what this node itself does, and requests on one connection.
NO_POOLS = {"join.search.AT_ONCE", "serve.endpoint.MAX_REQUESTS"}


def bounds() -> set[str]:
    """Every constant of that form in what other machines and processes reach."""
    found = set()
    for name in MODULES:
        if name.split(".")[0] not in ("broker", "join", "serve", "fleet"):
            continue
        for node in TREES[name].body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                found |= {
                    f"{name}.{part.id}" for part in parts
                    if isinstance(part, ast.Name) and BOUND.fullmatch(part.id)
                }  # fmt: skip
    return found


def test_every_pool_has_a_share_and_a_lapse() -> None:
    assert bounds() - NO_POOLS - BESIDES == POOLS.keys()
    for principal, lapse, _ in POOLS.values():
        assert principal and lapse


# Candidates of mDNS, which the share for each source bounds (test_candidates.py).
BESIDES = {name for name in bounds() if name.startswith(("serve.mdns.", "fleet."))}


@pytest.mark.parametrize("bound", POOLS)
def test_the_test_that_fills_it_exists(bound: str) -> None:
    file, _, name = POOLS[bound][2].partition("::")
    assert f"def {name}(" in (UNIT / file).read_text()
