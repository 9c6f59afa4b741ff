"""Seeded defects in what keeps strangers out: each patch must turn its named test red.

A defect is a patch to the product, ``defects/NAME.patch`` (``git diff``), and a line below.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.hostile.section import Section
from tests.hostile.strangers_defects import DEFECTS as STRANGERS
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
        "any-kind-of-file-read", "root reads a pipe or a device in another user's folder",
        f"{UNIT}/host/test_untrusted.py::test_only_a_file_of_the_folders_owner_is_read",
    ),
    _defect(
        "links-of-others-followed", "root follows a link that another user made",
        f"{UNIT}/host/test_untrusted.py::test_a_link_for_a_folder_on_the_way_is_not_followed",
    ),
    _defect(
        "folder-of-others-kept", "root puts keys into a folder that another user may write",
        f"{UNIT}/host/test_untrusted.py::TestReadableFolder",
    ),
    _defect(
        "answer-as-it-comes", "root acts on and shows what the broker answers as it comes",
        f"{UNIT}/join/test_answers.py::test_each_is_a_strict_and_bounded_record",
    ),
    _defect(
        "deadline-for-each-byte", "a message to or from the broker may come byte by byte",
        f"{UNIT}/broker/test_sockets.py::test_an_answer_that_comes_byte_by_byte_has_one_deadline",
    ),
    _defect(
        "any-socket-for-root", "what only root may ask is heard at the network's socket",
        f"{UNIT}/broker/test_sockets.py::test_who_may_ask_what_where",
    ),
    _defect(
        "answer-without-end", "the bound on an answer begins anew with each byte",
        f"{UNIT}/join/test_search.py::test_an_answer_that_does_not_end_is_ended",
    ),
    _defect(
        "answered-each-time", "a question is answered each time it is asked",
        f"{UNIT}/serve/test_mdns.py::test_however_often_somebody_asks_it_is_answered_once_a_second",
    ),
    _defect(
        "claim-is-a-right", "whoever holds a token counts as a member",
        f"{UNIT}/broker/test_rights.py::test_a_claim_gives_no_right_even_while_it_lasts",
    ),
    _defect(
        "name-freed-with-its-holder", "who leaves gives up its name with its membership",
        f"{UNIT}/broker/test_rights.py::test_a_name_outlives_its_holder",
    ),
    _defect(
        "bar-ends-by-the-clock", "how long a certificate may live is read from the clock",
        f"{UNIT}/broker/test_rights.py::test_a_name_outlives_its_holder",
    ),
    _defect(
        "time-goes-back", "what has ended is judged by the clock as it is",
        f"{UNIT}/broker/test_rights.py::test_a_token_made_while_the_clock_was_ahead_lives_ten_minutes",
    ),
    _defect(
        "end-not-written-down", "that enrolment has ended is not written down",
        f"{UNIT}/broker/test_rights.py::test_raising_seal_after_opens_nothing",
    ),
    _defect(
        "seal-leaves-tokens", "sealing leaves the tokens of whoever is on the way",
        f"{UNIT}/broker/test_rights.py::test_sealing_withdraws_what_nobody_approved",
    ),
    _defect(
        "certificate-noted-afterwards", "a certificate is remembered after it was approved",
        f"{UNIT}/broker/test_rights.py::test_a_power_cut_between_approval_and_record_loses_no_member",
    ),
    _defect(
        "last-name-only-is-barred", "a revocation names the last name of a key only",
        f"{UNIT}/broker/test_rights.py::test_all_names_that_a_key_had_a_certificate_for_are_barred",
    ),
    _defect(
        "first-page-only", "the first page of a list counts as the whole",
        f"{UNIT}/broker/test_kube_api.py::test_a_list_is_read_to_its_end",
    ),
    _defect(
        "control-plane-not-reserved", "a control plane's name is free while its Node is away",
        f"{UNIT}/broker/test_rights.py::test_a_control_planes_name_is_never_given",
    ),
    _defect(
        "one-kind-takes-all-places", "newcomers leave no place to members",
        f"{UNIT}/broker/test_places.py::test_members_and_approved_ones_get_a_place_at_once",
    ),
    _defect(
        "asking-again-keeps-a-place", "a key that asks again has its place anew",
        f"{UNIT}/broker/test_places.py::test_asking_again_makes_no_place_younger",
    ),
    _defect(
        "unused-places-forgotten", "places that were left unused count against nobody",
        f"{UNIT}/broker/test_places.py::test_what_is_remembered_of_addresses_is_bounded_and_lapses",
    ),
    _defect(
        "requests-without-quota", "one token may make any number of certificate requests",
        f"{UNIT}/broker/test_places.py::test_a_token_that_makes_many_requests_is_taken_away",
    ),
    _defect(
        "first-come-first-listed", "the waiting list is for whoever came first",
        f"{UNIT}/join/test_waiting.py::test_a_crowd_does_not_hide_who_waits",
    ),
    _defect(
        "turns-without-share", "one address may take all turns at the broker",
        f"{UNIT}/serve/test_connections.py::test_one_address_gets_a_share_of_the_turns",
    ),
    _defect(
        "statement-by-anyone", "a broker's key says where the cluster is and which CA it has",
        f"{UNIT}/join/test_statement.py::test_who_carries_it_cannot_make_it",
    ),
    _defect(
        "ended-word-taken", "what an agent vouched for is taken after its end",
        f"{UNIT}/join/test_statement.py::test_it_is_believed_until_it_ends",
    ),
    _defect(
        "earlier-cluster-taken", "a control plane's earlier cluster is taken for its present one",
        f"{UNIT}/join/test_statement.py::test_an_earlier_cluster_of_the_same_control_plane_is_not_joined",
    ),
    _defect(
        "answer-of-before-taken", "an answer about a cluster needs not be to this question",
        f"{UNIT}/agent/test_conflict.py::test_an_answer_that_was_heard_before_moves_nobody",
    ),
    _defect(
        "any-kubelet-key", "a token gets any key a certificate",
        f"{UNIT}/broker/test_broker.py::test_only_the_key_that_the_node_named_is_approved",
    ),
    _defect(
        "token-in-the-clear", "who carries a grant can read the token",
        f"{UNIT}/join/test_vouched.py::test_nothing_that_is_carried_can_be_used",
    ),
    _defect(
        "another-cluster-renewed", "a member's certificate is renewed by whatever cluster answers",
        f"{UNIT}/agent/test_formation.py::test_a_member_from_the_drawer_joins_no_other_cluster",
    ),
    _defect(
        "control-plane-barred", "a broker's word has root bar a control plane",
        f"{UNIT}/cli/test_admissions.py::test_a_broker_that_was_taken_over_has_root_bar_no_control_plane",
    ),
    _defect(
        "certificate-laid-before-it-is-whole", "a kubelet finds a certificate without its key",
        f"{UNIT}/cluster/test_kubelet_certificate.py::test_a_cut_anywhere_leaves_a_kubelet_whole_or_none",
    ),
    _defect(
        "any-api-server-followed", "a member follows whatever control plane of the fleet answers",
        "tests/net/test_follow.py::test_another_cluster_of_the_fleet_is_not_followed",
    ),
    _defect(
        "any-boot-ends", "a worker turns itself off where other boots are to end",
        "tests/net/test_follow.py::test_a_worker_is_told_that_its_boot_shall_end",
    ),
    _defect(
        "off-while-it-runs", "a worker that has only stopped its kubelet counts as off",
        f"{UNIT}/agent/test_all_off.py::test_a_board_is_off_when_nobody_is_there",
    ),
    _defect(
        "off-for-a-moment", "a board that only reboots counts as off",
        f"{UNIT}/agent/test_all_off.py::test_a_board_that_only_reboots_is_waited_for",
    ),
    _defect(
        "off-unseen", "a board that cannot be seen from the control plane counts as off",
        f"{UNIT}/agent/test_all_off.py::test_who_could_not_be_seen_to_go_off_is_named_before",
    ),
    _defect(
        "another-clusters-word-ends-a-boot", "any leader of the fleet turns a worker off",
        "tests/net/test_follow.py::test_another_clusters_word_ends_no_boot",
    ),
    _defect(
        "any-clock-followed", "a control plane's wrong clock takes the workers' along",
        f"{UNIT}/agent/test_time_of_the_cluster.py::test_the_clock_goes_by_the_control_planes",
    ),
)  # fmt: skip

ALL = (*DEFECTS, *STRANGERS)


def run(seed: int) -> Section:
    """Seed each and run its test; on the true tree all of these tests must be green."""
    faults = []
    said = seeded.green(ALL)
    if said:
        faults.append(f"the named tests fail on the true tree: {said}")
    rows = []
    for defect in ALL:
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
