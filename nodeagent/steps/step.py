"""What a step is. Steps are pure: they read facts and settings and yield the actions needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from nodeagent.config import Settings
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts


class Step(Protocol):
    """One unit of preparation. Nothing yielded means: it holds."""

    @property
    def name(self) -> str:
        """Short and stable, for example ``cgroup``."""

    @property
    def title(self) -> str:
        """For people, for example ``Enable the memory cgroup``."""

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The actions still needed. Raises Blocked(reason, remedy) where it cannot go on."""
