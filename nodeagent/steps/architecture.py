"""Step: the system is a 64-bit one. Kubernetes is published for no 32-bit ARM any more
(Kubernetes 1.36 release binaries: amd64, arm64, ppc64le, s390x)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action
from nodeagent.host.apt import dpkg
from nodeagent.host.facts import Facts
from nodeagent.steps.step import Step

SUPPORTED = ("arm64", "amd64")


@dataclass(frozen=True)
class Architecture(Step):
    """A 32-bit system often runs on a 64-bit kernel on Pis, so dpkg is asked, not the kernel."""

    name = "architecture"
    title = "Check that the system is a 64-bit one"
    group = "Board"
    why = "Kubernetes is published for 64-bit systems only."
    on_image = True
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only looks. Raises Blocked."""
        found = facts.architecture
        if not found:
            _check_database(facts)
        if found not in SUPPORTED:
            what = f"is for {found}" if found else "is no Debian, Ubuntu or Raspberry Pi OS"
            raise Blocked(
                f"This system {what}; nodeagent needs a 64-bit one ({' or '.join(SUPPORTED)}).",
                "Flash the card anew with the 64-bit system, for example Raspberry Pi OS Lite"
                " (64-bit).",
            )
        yield from ()

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return facts.architecture


def _check_database(facts: Facts) -> None:
    """dpkg does not know itself: its database is lost, or this is another family of systems, which
    os-release and copies of the database tell. Raises Blocked for a lost one."""
    whole = [path for path in dpkg.COPIES if _is_whole(facts.text(path) or "")]
    unnamed = not facts.os_id and facts.size(dpkg.STATUS) > 0
    if not (facts.is_debian or whole or unnamed):
        return
    remedy = "There is no whole copy of it on this card: flash the card anew."
    if whole:
        remedy = (
            f"Put back a copy of it with `sudo cp {whole[0]} {dpkg.STATUS}`; the agent then goes on"
            " by itself."
        )
    raise Blocked(
        f"dpkg's database is damaged: {dpkg.STATUS} is empty or cannot be read, as after a power"
        " cut.",
        remedy,
    )


def _is_whole(status: str) -> bool:
    """Neither cut off, nor zeros where a power cut left blocks unwritten."""
    complete = status.endswith("\n") and "\0" not in status
    return complete and bool(dpkg.Packages(status).architecture)
