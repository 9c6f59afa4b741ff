"""The pool of candidates: a flood crowds out only itself."""

from __future__ import annotations

from nodeagent.fleet.handoff import MAX_CANDIDATES
from nodeagent.serve.mdns.candidates import HOLD, MAX_PER_SOURCE, STAY, Pool


def test_a_flood_from_one_address_displaces_nobody() -> None:
    pool = Pool()
    for number in range(12):
        assert pool.add(f"10.77.0.{number}", f"n-{number}", f"10.77.0.{number}", 6444, "true")
    for number in range(1000):
        pool.add("10.77.0.66", f"n-{number}", "10.77.0.66", 6444, f"forged{number}")
        pool.add("10.77.0.66", "n-3", "10.77.0.66", 6444, f"spoofed{number}")
    assert len([entry for entry in pool.all() if entry.beacon == "true"]) == 12
    assert len(pool) <= 12 + MAX_PER_SOURCE


def test_a_record_in_ones_own_name_and_address_displaces_nothing() -> None:
    """As an attacker sends it right after the true one: same source address, same instance."""
    pool = Pool()
    assert pool.add("10.77.0.1", "n-1", "10.77.0.1", 6444, "true", 100.0)
    assert pool.add("10.77.0.1", "n-1", "10.77.0.1", 6444, "spoofed", 100.1)
    assert "true" in [entry.beacon for entry in pool.all()]


def test_the_lot_is_the_same_for_all_that_was_said_in_the_same_while() -> None:
    """A flood in a node's own address: the node is heard as often as its share of what is said."""
    heard = 0
    for _ in range(500):
        pool = Pool()
        pool.add("10.77.0.1", "n-1", "10.77.0.1", 6444, "true", 100.0)
        for number in range(5 * MAX_PER_SOURCE - 1):
            pool.add("10.77.0.1", "n-1", "10.77.0.1", 6444, f"spoofed{number}", 100.5)
        heard += "true" in [entry.beacon for entry in pool.all()]
    # One in five, 100 of 500; 8 standard deviations of 9 each way.
    assert 28 < heard < 172


def test_many_addresses_fill_it_and_no_more() -> None:
    pool = Pool()
    for source in range(200):
        for number in range(6):
            pool.add(f"s{source}", f"n-{number}", "10.77.0.1", 6444, f"x{number}")
    assert len(pool) == len(pool.all()) == MAX_CANDIDATES
    assert len({entry.beacon for entry in pool.all()}) > 1, "nobody can choose who is forgotten"


def test_only_news_are_news() -> None:
    pool = Pool()
    assert pool.add("a", "n-1", "10.77.0.1", 6444, "x", 100.0)
    first = pool.all()[0].first
    assert not pool.add("a", "n-1", "10.77.0.1", 6444, "x", 101.0)
    assert pool.add("a", "n-1", "10.77.0.1", 6444, "y", 101.0 + STAY)
    assert [(entry.beacon, entry.first) for entry in pool.all()] == [("y", first)]


def test_what_was_read_long_since_makes_room_first() -> None:
    pool = Pool()
    for number in range(MAX_PER_SOURCE):
        assert pool.add("a", f"n-{number}", "10.77.0.1", 6444, f"old{number}", 100.0 + number)
    assert pool.add("a", "n-99", "10.77.0.1", 6444, "new", 200.0 + HOLD)
    held = [entry.beacon for entry in pool.all()]
    assert held == [*(f"old{number}" for number in range(1, MAX_PER_SOURCE)), "new"]


def test_it_knows_what_was_said_by_anybody() -> None:
    pool = Pool()
    pool.add("10.0.0.2", "n-1", "10.0.0.2", 6444, "abc")
    assert pool.holds("n-1", "abc")
    assert not pool.holds("n-1", "abd") and not pool.holds("n-2", "abc")
