"""What a step is. Steps are pure: they read facts and settings and yield the actions needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from nodeagent.config.settings import Settings
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


@runtime_checkable
class Undoable(Protocol):
    """A step that leaves something behind which ``nodeagent reset`` takes away."""

    @property
    def name(self) -> str:
        """As of the step."""

    @property
    def title(self) -> str:
        """As of the step."""

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """As of the step."""

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The actions that take back what ``plan`` ever did; pure, and nothing yielded means:
        nothing of it is left. What others wrote stays. What the kernel still has in memory goes
        with the next boot."""
