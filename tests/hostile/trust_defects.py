"""Seeded defects in what keeps strangers out: each patch must turn its named test red.

A defect is a patch to the product, ``defects/NAME.patch`` (``git diff``), and a line below.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.hostile.section import Section
from tests.support import seeded
from tests.support.seeded import Defect

UNIT = "tests/unit"
PATCHES = Path(__file__).parent / "defects"
_defect = partial(Defect, folder=PATCHES)

DEFECTS: tuple[Defect, ...] = (
    _defect(
        "no-name-check", "a node does not look at the name in a control plane's certificate",
        f"{UNIT}/trust/test_tls.py::test_verdicts",
    ),
    _defect(
        "no-audience-check", "a grant for another node is taken",
        f"{UNIT}/join/test_messages.py::test_a_grant_of_another_form_is_refused",
    ),
    _defect(
        "alg-not-pinned", "a signed message itself says by which algorithm to check it",
        f"{UNIT}/join/test_messages.py::test_a_right_signature_by_another_algorithm_is_refused",
    ),
    _defect(
        "scrub-skipped", "the card file stays on the boot partition as it is",
        f"{UNIT}/trust/test_store.py::test_import_takes_the_keys_over_and_scrubs",
    ),
    _defect(
        "keys-freed-not-overwritten", "what an import that lost power kept is freed with the keys",
        f"{UNIT}/trust/test_store.py::test_what_a_cut_import_left_is_overwritten_and_not_just_freed",
    ),
    _defect(
        "candidate-dropped", "a spoofed record displaces the true candidate",
        f"{UNIT}/serve/test_candidates.py::test_a_record_in_ones_own_name_and_address_displaces_nothing",
    ),
    _defect(
        "one-source-takes-all", "no share per source: one address fills the pool of candidates",
        f"{UNIT}/serve/test_candidates.py::test_a_flood_from_one_address_displaces_nobody",
    ),
    _defect(
        "one-address-takes-all", "no share per address: one stranger holds all connections",
        f"{UNIT}/serve/test_connections.py::test_one_address_gets_a_share_only",
    ),
    _defect(
        "handshake-on-the-accept-loop", "a handshake is waited for before the next one is let in",
        f"{UNIT}/serve/test_connections.py::test_a_newcomer_gets_in_though_strangers_hold_all_places",
    ),
    _defect(
        "answer-without-end", "the bound on an answer begins anew with each byte",
        f"{UNIT}/join/test_search.py::test_an_answer_that_does_not_end_is_ended",
    ),
    _defect(
        "answered-each-time", "a question is answered each time it is asked",
        f"{UNIT}/serve/test_mdns.py::test_however_often_somebody_asks_it_is_answered_once_a_second",
    ),
)  # fmt: skip


def run(seed: int) -> Section:
    """Seed each and run its test; on the true tree all of these tests must be green."""
    faults = []
    said = seeded.green(DEFECTS)
    if said:
        faults.append(f"the named tests fail on the true tree: {said}")
    rows = []
    for defect in DEFECTS:
        verdict = seeded.verdict(defect)
        rows.append((defect.what, f"`{defect.test}`", "red" if verdict.caught else "NOT CAUGHT"))
        if not verdict.caught:
            faults.append(f"defect {defect.name} was not caught: {verdict.why}")
    return Section(
        "Seeded defects",
        "Each is put into a copy of the product, and the named test must fail there. On the copy "
        "without any, all the same tests pass.",
        ("defect", "test", "verdict"),
        tuple(rows),
        tuple(faults),
    )
