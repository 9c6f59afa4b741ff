"""Seeded cards in the hands of the real programs of Debian's releases: ``make systems``."""
