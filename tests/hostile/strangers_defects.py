"""Seeded defects in what keeps strangers' bytes apart, and secrets on the node."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.support.seeded import Defect

PATCHES = Path(__file__).parent / "defects"
UNIT, NET = "tests/unit", "tests/net"
_defect = partial(Defect, folder=PATCHES)

DEFECTS: tuple[Defect, ...] = (
    _defect(
        "image-in-a-chroot", "an image's programs run in a chroot only",
        f"{NET}/test_bake_sandbox.py::test_nothing_leads_out",
    ),
    _defect(
        "proc-writable", "root in an image's sandbox may write to the kernel's settings",
        f"{NET}/test_bake_sandbox.py::test_nothing_leads_out",
    ),
    _defect(
        "module-of-this-folder", "the process that bakes takes modules from the current folder",
        f"{UNIT}/imaging/test_bake.py::test_a_module_of_this_folder_is_not_run",
    ),
    _defect(
        "bomb-unpacked", "an .xz is unpacked before anybody looks at the room",
        f"{UNIT}/imaging/test_unxz.py::test_a_bomb_is_not_unpacked",
    ),
    _defect(
        "any-host-answered", "the status page answers whatever name it is asked for",
        f"{UNIT}/serve/test_status_page.py::test_only_requests_for_this_node_are_answered",
    ),
    _defect(
        "cluster-keys-freed", "a cluster's keys are removed as they are",
        f"{UNIT}/cluster/test_given_up.py::test_all_keys_are_overwritten_when_they_are_removed",
    ),
    _defect(
        "log-by-its-look", "a report has others' log lines, without what looks like a secret",
        f"{UNIT}/doctor/test_harmless.py::test_a_password_of_letters_stays_on_the_node",
    ),
    _defect(
        "heard-by-name", "root opens by name what the network process heard",
        f"{NET}/test_opens.py::"
        "test_root_opens_nothing_by_name_where_another_user_may_put_something",
    ),
    _defect(
        "link-followed", "a file for a person is written where a link leads",
        f"{UNIT}/doctor/test_harmless.py::test_a_link_under_the_next_name_is_not_followed",
    ),
    _defect(
        "tool-with-the-network", "a program that reads an image has the network",
        f"{NET}/test_native_sandbox.py::test_a_tool_that_was_taken_over_reaches_nothing",
    ),
    _defect(
        "tool-sees-the-folder", "a program that reads an image sees the folder that it is in",
        f"{NET}/test_native_sandbox.py::test_a_tool_that_was_taken_over_reaches_nothing",
    ),
    _defect(
        "image-always-written", "a program that reads an image may write to it",
        f"{NET}/test_native_sandbox.py::test_a_tool_that_was_taken_over_reaches_nothing",
    ),
    _defect(
        "tool-with-the-environment", "a program that reads an image has the user's environment",
        f"{NET}/test_native_sandbox.py::test_a_tool_that_was_taken_over_reaches_nothing",
    ),
    _defect(
        "tool-run-bare", "a file system is checked without a sandbox",
        f"{UNIT}/imaging/test_confined.py::test_processes_are_begun_in_known_places_only",
    ),
    _defect(
        "answer-taken-whole", "what a program says of an image is taken without a bound",
        f"{UNIT}/imaging/test_confined.py::test_an_answer_without_end_is_cut_off",
    ),
    _defect(
        "links-lead-out", "names of hard links may lead out of the copy",
        f"{UNIT}/imaging/test_confined.py::test_hard_links_stay_in_the_copy",
    ),
    _defect(
        "road-to-localhost", "an image's programs reach 127.0.0.1 of the computer by the road",
        f"{NET}/test_road.py::test_an_images_programs_have_one_road_out",
    ),
    _defect(
        "network-of-the-computer", "an image's programs have the network of the computer",
        f"{NET}/test_road.py::test_an_images_programs_have_one_road_out",
    ),
)  # fmt: skip
