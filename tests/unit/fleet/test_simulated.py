"""A small sample of `make simulate`: whole fleets in simulated time on the shipped election."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeagent.statefile import empty
from tests.simulate.air import Partition
from tests.simulate.memory import Memory, PowerCut
from tests.simulate.pi import Make
from tests.simulate.plans import NEVER, Plan, draw
from tests.simulate.run import Outcome, live


@pytest.mark.parametrize("block", range(6))
def test_drawn_fleets_have_one_control_plane_and_no_split_goes_unseen(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        out = live(draw(seed))
        assert not out.faults, f"python -m tests.simulate --replay {seed}"
        if out.plan.able and out.plan.enough:
            assert out.decided is not None, f"seed {seed}: no cluster"


def test_a_fleet_follows_from_its_seed_and_seals_change_nothing_but_the_work() -> None:
    one, again = live(draw(7)), live(draw(7))
    assert one == again
    sealed = live(replace(draw(7), sealed=True))
    assert [what for _, what in sealed.events] == [what for _, what in one.events]


def fleet(size: int, expected: int | None, seed: int = 1, **network: object) -> Outcome:
    """The life of plain boards that are switched on together; the last ones rank highest."""
    makes = tuple(
        Make(number, ((number * 0.1, NEVER),), fitness=(1, 2, number, 1), expected=expected)
        for number in range(size)
    )
    plan = Plan(seed, makes, expected, 0.0, 0.1, (), frozenset(), 0.0, False, 0.0, False)
    return live(replace(plan, **network))  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "expected"), [(2, 2), (4, 4), (6, 6), (3, 5), (5, 5)])
def test_parts_of_a_known_fleet_never_both_lead(size: int, expected: int) -> None:
    for cut in range(1, size):
        apart = Partition(0.0, 1000.0, frozenset(range(cut)))
        out = fleet(size, expected, partitions=(apart,), quiet=1000.0)
        assert not out.faults
        assert not out.split


@pytest.mark.parametrize("seed", range(30))
def test_one_voter_between_two_that_do_not_hear_each_other_decides(seed: int) -> None:
    deaf = frozenset({(0, 1), (1, 0)})
    for loss in (0.0, 0.4):
        out = fleet(3, 3, seed, deaf=deaf, deaf_end=900.0, quiet=900.0, loss=loss)
        assert not out.faults
        assert out.decided is not None


def test_unknown_fleets_in_two_parts_split_and_heal_when_they_meet() -> None:
    apart = Partition(0.0, 400.0, frozenset({0}))
    out = fleet(2, None, partitions=(apart,), quiet=400.0)
    assert out.split
    assert out.healed
    assert not out.faults
    assert [what.split()[1] for _, what in out.events].count("steps") == 1


def test_a_split_with_nodes_on_both_sides_is_reported_by_both() -> None:
    apart = Partition(0.0, 500.0, frozenset({0, 1}))
    out = fleet(4, None, partitions=(apart,), quiet=500.0)
    assert out.split
    assert out.reported
    assert not out.healed


@pytest.mark.parametrize("after", [False, True])
def test_the_double_of_the_journal_is_cut_at_a_write(after: bool) -> None:
    memory = Memory()
    memory.set(epoch=1)
    memory.fuse, memory.after = 1, after
    memory.set(starts=2)
    with pytest.raises(PowerCut):
        memory.set(epoch=None)
    assert memory.values == {**empty(), "epoch": None if after else 1, "starts": 2}
