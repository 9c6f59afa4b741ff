"""Seeded defects in what a board needs to become a node, and to remain one: a first boot, a disk,
networks, a clock and packages as people have them."""

from __future__ import annotations

from functools import partial

from tests.reliability.durability_defects import PATCHES
from tests.support.seeded import Defect

UNIT = "tests/unit"
FIRST_BOOT, SYSTEM = f"{UNIT}/imaging/test_first_boot.py", f"{UNIT}/imaging/test_system.py"
EMPTY = f"{UNIT}/cluster/test_workloads.py"
MOVED = f"{UNIT}/steps/test_own_address.py"
MOVES, FORMING = f"{UNIT}/agent/test_moved.py", f"{UNIT}/agent/test_formation.py"
_defect = partial(Defect, folder=PATCHES)

DEFECTS = (
    _defect(
        "path-as-others-change-it", "the path of our first-boot script is one that the image edits",
        f"{FIRST_BOOT}::test_systemd_runs_every_hook_in_order_and_then_reboots",
    ),
    _defect(
        "power-off-where-ours-fails", "where our first-boot script fails, the board powers off",
        f"{FIRST_BOOT}::test_systemd_runs_every_hook_in_order_and_then_reboots",
    ),
    _defect(
        "hang-of-others-waited-for", "a first-boot script of others that hangs is waited for",
        f"{FIRST_BOOT}::test_a_script_of_others_that_never_ends_does_not_keep_ours",
    ),
    _defect(
        "booted-instance-relied-on", "cloud-init is relied on where it reads nothing new",
        f"{SYSTEM}::test_the_first_boot_runs_ours",
    ),
    _defect(
        "any-system-seeded", "a system without a sign of a known one is seeded",
        f"{SYSTEM}::test_a_card_on_which_nothing_would_come_of_it_is_refused",
    ),
    _defect(
        "disk-not-looked-at", "keys are taken over onto a disk that forgets",
        f"{UNIT}/trust/test_store.py::test_a_root_that_forgets_gets_no_keys",
    ),
    _defect(
        "what-moved-in-overlooked", "a cluster with somebody's objects in it is called empty",
        f"{EMPTY}::test_who_lives_there",
    ),
    _defect(
        "empty-without-a-list", "a cluster of which no list was taken at birth is called empty",
        f"{EMPTY}::test_a_cluster_without_its_list_is_not_called_empty",
    ),
    _defect(
        "lan-inside-the-pods", "a pod network that holds the LAN is taken",
        f"{UNIT}/doctor/test_clashes.py::test_a_clash_is_named_once_and_nothing_is_changed_before",
    ),
    _defect(
        "birth-of-a-wrong-clock", "certificates that are not valid yet are called well",
        f"{UNIT}/doctor/test_clashes.py::test_a_clock_that_was_ahead_at_the_cluster_s_birth",
    ),
    _defect(
        "clock-left-in-the-past", "a clock that starts before the cluster is left there",
        f"{UNIT}/steps/test_steps.py::test_step[last-known-time/power-cut-without-time-server]",
    ),
    _defect(
        "first-words-of-apt-only", "a wrong signature is told as a network that broke off",
        f"{UNIT}/host/test_apt.py::test_every_recorded_failure_has_a_plain_reason",
    ),
    _defect(
        "torn-lists-kept", "package lists that a power cut tore stop an installation for good",
        f"{FIRST_BOOT}::test_the_installer_knows_what_the_agent_learned_of_apt",
    ),
    _defect(
        "kubelet-told-by-file-only", "a kubelet that runs with the address of before is left so",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "copies-of-names-kept", "pods keep a copy of /etc/hosts with the address of before",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "tunnel-kept", "the pod network's tunnel keeps the address of before",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "manifest-of-the-birth", "the API server goes on advertising the address of before",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "half-a-certificate-served", "a certificate beside another one's key counts as whole",
        f"{MOVED}::test_a_certificate_without_its_key_is_made_again",
    ),
    _defect(
        "first-other-address-taken", "a lease that comes and goes restarts the control plane",
        f"{UNIT}/agent/test_keeper.py::test_an_address_that_comes_and_goes_moves_nothing",
    ),
    _defect(
        "waits-at-the-former-address", "an agent that waits for Ready overlooks a new address",
        f"{UNIT}/agent/test_formation.py::"
        "test_files_follow_another_address_while_the_agent_waits",
    ),
    _defect(
        "names-kept", "the names in /etc/hosts lead to the address of before",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "names-of-others-overlooked", "somebody else's line with a control plane's name counts",
        f"{UNIT}/steps/test_steps.py::test_step[own-address/own-name-is-there-already]",
    ),
    _defect(
        "kubeconfigs-kept", "a control plane's own parts ask the address of before",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "configuration-of-the-birth", "certificates are renewed by the address of birth",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "former-certificate-left", "kubeadm finds the certificate of before, and keeps it",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "etcd-of-the-birth", "etcd's annotation keeps the address of before",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "kubelet-not-told", "the kubelet's flags keep the address of before",
        f"{MOVED}::test_a_cut_anywhere_ends_alike",
    ),
    _defect(
        "listener-kept", "a pod network goes on listening at the address of before",
        f"{MOVED}::test_a_network_that_listens_at_the_former_address_is_started_anew",
    ),
    _defect(
        "network-tunnels-kept", "tunnels that the pod network finds keep the address of before",
        f"{MOVED}::test_a_network_that_listens_at_the_former_address_is_started_anew",
    ),
    _defect(
        "moved-again-and-again", "a node follows each of two addresses that take turns",
        f"{MOVES}::test_interfaces_that_swap_all_the_time_move_a_node_hardly_ever",
    ),
    _defect(
        "wavering-forgotten", "an address that did not stay is followed as if it were the first",
        f"{MOVES}::test_one_that_does_not_stay_moves_nothing_even_if_it_stays_longer_later",
    ),
    _defect(
        "half-a-move-forgotten", "an address that was followed by half is taken for followed",
        f"{FORMING}::test_a_move_that_was_followed_by_half_is_followed_to_its_end",
    ),
    _defect(
        "former-address-told", "those who join are sent to the address of before",
        f"{FORMING}::test_those_who_join_are_told_the_address_that_the_files_follow",
    ),
    _defect(
        "clock-behind-the-journal", "a clock goes on from before what etcd has recorded",
        f"{UNIT}/steps/test_clock.py::test_a_clock_is_never_behind_what_the_cluster_has_recorded",
    ),
)  # fmt: skip
