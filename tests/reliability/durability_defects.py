"""Seeded defects in what must outlive a power cut."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.support.seeded import Defect

PATCHES = Path(__file__).parent / "defects"
UNIT = "tests/unit"
FIRST_BOOT = f"{UNIT}/test_powercut.py::test_a_cut_anywhere_of_the_first_boot"
WAY_OUT = f"{UNIT}/test_powercut.py::test_a_cut_anywhere_of_the_way_out"
WRITE = f"{UNIT}/host/test_durable.py::test_a_cut_leaves_the_old_or_the_new"
CARD = f"{UNIT}/trust/test_store.py::test_a_cut_at_every_write"
_defect = partial(Defect, folder=PATCHES)

DEFECTS = (
    _defect("content-not-synced", "the durable write renames before the content is synced", WRITE),
    _defect("folder-not-synced", "the durable write does not sync the folder", WRITE),
    _defect("replaced-file-not-held", "on FAT the replaced file's place is given away", WRITE),
    _defect("naive-writer", "temporary file and rename, nothing synced", WRITE),
    _defect("cmdline-written-in-place", "cmdline.txt is overwritten, not replaced", FIRST_BOOT),
    _defect("imported-before-it-is", "the journal says imported before the keys are kept", CARD),
    _defect("scrubbed-before-kept", "the card is scrubbed before its keys are kept", CARD),
    _defect("formed-before-it-is", "the mark `formed` stands before kubeadm's files", FIRST_BOOT),
    _defect(
        "intent-forgotten-first", "that a node leaves its cluster is forgotten before it has left",
        f"{WAY_OUT}[a worker leaves and joins again]",
    ),
    _defect(
        "reset-forgotten-while-on", "a reset is forgotten before the agent is off",
        f"{WAY_OUT}[a worker is reset]",
    ),
    _defect(
        "reboot-recorded-afterwards", "the reboot is recorded after it was asked for",
        f"{UNIT}/test_powercut.py::test_a_kernel_that_does_not_listen_is_rebooted_once",
    ),
    _defect(
        "claim-recorded-late", "the claim to lead is announced and not in the journal",
        f"{UNIT}/agent/test_agent.py::test_a_claim_is_in_the_journal_before_anyone_hears_it",
    ),
    _defect(
        "name-check-skipped", "a granted name goes to whoever asks last",
        f"{UNIT}/broker/test_broker.py::test_names_belong_to_the_first_key",
    ),
    _defect(
        "newest-word-displaces", "a spoofed record displaces the true candidate",
        f"{UNIT}/serve/test_candidates.py::test_a_flood_from_one_address_displaces_nobody",
    ),
)  # fmt: skip
