"""What a step is. Steps are pure: they read facts and settings and yield the actions needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts


class Step(ABC):
    """One unit of preparation. Nothing yielded means: it holds.

    ``name`` is short and stable, for example ``cgroup``; ``title`` is for people, for example
    ``Enable the memory cgroup``. ``group`` and ``why`` are where and with which reason the doctor
    shows it. ``on_image``: its file actions are done on a mounted image; ``on_bake``: it is done
    while an image is baked, when the image's own programs can run. The boot files are on another
    partition, and whoever writes that does their part. ``needs_root``: an ordinary user would be
    told "permission denied".
    """

    name: str
    title: str
    group: Literal["Board", "Disk", "System", "Network", "Software"] = "System"
    why: str = ""
    on_image: bool = False
    on_bake: bool = False
    needs_root: bool = False

    @abstractmethod
    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The actions still needed. Raises Blocked(reason, remedy) where it cannot go on."""

    def holds(self, facts: Facts, settings: Settings) -> str:
        """What the doctor says where the step holds: a few words, of what was found."""
        return "as it should be"


@runtime_checkable
class Undoable(Protocol):
    """A step that leaves something behind which ``nodeagent reset`` takes away."""

    name: str
    title: str

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """As of the step."""

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """The actions that take back what ``plan`` ever did; pure, and nothing yielded means:
        nothing of it is left. What others wrote stays. What the kernel still has in memory goes
        with the next boot."""
