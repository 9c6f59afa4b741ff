"""The pool of candidates: a flood crowds out only itself."""

from __future__ import annotations

from nodeagent.fleet.exchange import MAX_CANDIDATES
from nodeagent.fleet.pool import MAX_PER_SOURCE, Pool


def test_a_flood_from_one_address_displaces_nobody() -> None:
    pool = Pool()
    for number in range(12):
        assert pool.add(f"10.77.0.{number}", f"n-{number}", f"10.77.0.{number}", 6444, "true")
    for number in range(1000):
        pool.add("10.77.0.66", f"n-{number}", "10.77.0.66", 6444, "forged")
        pool.add("10.77.0.66", "n-3", "10.77.0.66", 6444, f"spoofed{number}")
    assert len([entry for entry in pool.all() if entry.beacon == "true"]) == 12
    assert len(pool) <= 12 + MAX_PER_SOURCE


def test_many_addresses_fill_it_and_no_more() -> None:
    pool = Pool()
    for source in range(200):
        for number in range(6):
            pool.add(f"s{source}", f"n-{number}", "10.77.0.1", 6444, "x")
    assert len(pool) == len(pool.all()) == MAX_CANDIDATES


def test_only_news_are_news() -> None:
    pool = Pool()
    assert pool.add("a", "n-1", "10.77.0.1", 6444, "x")
    first = pool.all()[0].first
    assert not pool.add("a", "n-1", "10.77.0.1", 6444, "x")
    assert pool.add("a", "n-1", "10.77.0.1", 6444, "y")
    assert [(entry.beacon, entry.first) for entry in pool.all()] == [("y", first)]


def test_it_knows_what_was_said_by_anybody() -> None:
    pool = Pool()
    pool.add("10.0.0.2", "n-1", "10.0.0.2", 6444, "abc")
    assert pool.holds("n-1", "abc")
    assert not pool.holds("n-1", "abd") and not pool.holds("n-2", "abc")
