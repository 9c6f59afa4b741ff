"""The root process: prepare, decide, form, keep (``nodeagent run``).

Crash-only: each start reads the world and goes on from there; nothing here remembers where it
was. What cannot be done now is shown with its reason and tried again until the cause goes away.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from nodeagent import steps
from nodeagent.agent import conflict as healing
from nodeagent.agent import inventory, keeper, reset
from nodeagent.agent import package_progress as packagewatch
from nodeagent.agent.announcer import Radio
from nodeagent.agent.formation import Former
from nodeagent.agent.reporter import Board
from nodeagent.cluster import kubeadm_state as state
from nodeagent.cluster import membership
from nodeagent.cluster.kubeadm_state import State
from nodeagent.config import settings as config
from nodeagent.config.settings import Settings
from nodeagent.errors import (
    Blocked,
    CommandFailed,
    DiskTrouble,
    FetchFailed,
    Internal,
    NoControlPlane,
    NodeAgentError,
    NotAdmitted,
    of_agent,
)
from nodeagent.host import identity as names
from nodeagent.host.actions import Reboot
from nodeagent.host.boot import files as bootfiles
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.reboot import reboot
from nodeagent.statefile import Journal
from nodeagent.steps import engine
from nodeagent.trust import store as fleet_trust
from nodeagent.trust.node_key import NodeKey

LOG = logging.getLogger("nodeagent")
T = TypeVar("T")

SHORT_PAUSE = 2.0  # seconds; for waits on the world, which are cheap to look at
LONG_PAUSE = 60.0
APPROVAL_PAUSE = 10.0  # while a person is to let the node in; each look costs a TLS handshake
JOIN_PAUSE = 15.0  # at most, between asking for a grant; a try is cheap
PATIENCE = 3  # failed tries in a row before the phase says that a person is needed
WATCHDOG_PERIOD = 60.0  # seconds; the unit's WatchdogSec is ten times that
REBOOT_BOUND = 300.0  # seconds that a reboot waits for what it would break off


def main() -> None:
    """Run the agent until it is stopped. Never returns on a healthy machine."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    Agent(Host()).run()


class Agent:
    """One node's life. ``run`` reads from top to bottom as the story of a boot."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.board = Board(host)
        self.journal: Journal
        self.radio: Radio

    def run(self) -> None:
        """The life of a node (design: prepare, announce, decide, form, keep)."""
        self.host.background(self._pet_watchdog)
        self.host.background(self._watch_packages)
        self.board.enter("preparing", "Reading the settings")
        self.host.notify("READY=1")
        self.journal = self.insist(lambda: Journal(self.host))
        self.insist(lambda: reset.resume(self.host, self.board, self.journal))
        settings = self.insist(self.settings)
        reboots = self.insist(lambda: self.sequence(steps.CARD))
        self.insist(self.settle_in)
        self.insist(lambda: self.board.take_stock(inventory.take(self.host)))
        self.board.set(detail="Reading the fleet's keys")
        trust = self.insist(lambda: fleet_trust.import_card(self.host, self.journal))
        key = self.insist(lambda: NodeKey.load_or_create(self.host))
        self.insist(lambda: healing.give_way(self.host, self.board, self.journal, trust, key))
        self.radio = Radio(self.host, self.board, self.journal, trust, key, settings)
        self.host.background(self.radio.run)

        reboots += self.insist(lambda: self.sequence(steps.KERNEL))
        if reboots:
            self.insist(lambda: self.reboot(reboots))
        self.radio.elect()
        self.insist(lambda: self.sequence(steps.SOFTWARE))

        former = Former(self.host, self.board, self.journal, self.radio, trust, key)
        self.insist(former.form)
        self.keep()

    def settings(self) -> Settings:
        """All layers of settings. Raises ConfigError, OSError."""
        return config.load(self.host).settings

    def settle_in(self) -> None:
        """What was claimed and measured on another board does not count on this one; a member's
        card in another board is shown and noted, once for each board."""
        facts = Facts(self.host)
        note = membership.moved_note(facts)
        self.board.set(notes=[note] if note else [])
        if self.journal.values["role"] is None and state.read(self.host) is State.CONTROL_PLANE:
            # The power went between the cluster and the journal: the election is over all the same.
            born = int(self.host.clock.now())
            self.journal.set(role="control-plane", initialised=True, born=born)
        here, before = names.usable_serial(facts.serial), self.journal.values["board"]
        if not here or here == before:
            return
        if before:
            LOG.info("the card was on board %s, it is on board %s now. %s", before, here, note)
            self.journal.note("another board", before=before, now=here)
            if not membership.is_member(facts):
                self.journal.set(claim=None, fsync_ms=None)
        self.journal.set(board=here)

    def sequence(self, sequence: tuple[steps.Step, ...]) -> list[Reboot]:
        """Bring the steps to hold with the settings of now."""
        self.board.enter("preparing", "Looking what is to do")
        settings = self.settings()
        return engine.run(sequence, self.host, settings, self.journal, self.board.progress)

    def reboot(self, reboots: list[Reboot]) -> NoReturn:
        """Reboot once for all reasons, recorded before it happens.

        Bounded, it waits for what a reboot would spoil: cloud-init works through its modules once
        only, and an update that is booted on trial would be taken for a bad one.
        """
        self.board.enter("rebooting", "; ".join(wish.reason for wish in reboots))
        deadline = self.host.clock.monotonic() + REBOOT_BOUND
        while (
            self._cloud_init_runs() or bootfiles.on_trial(self.host)
        ) and self.host.clock.monotonic() < deadline:
            self.host.clock.sleep(1)
        engine.ask_reboot(reboots, self.host, self.journal)
        reboot(self.host)
        while True:  # systemd ends this process
            self.host.clock.sleep(LONG_PAUSE)

    def _cloud_init_runs(self) -> bool:
        """It writes result.json when its final stage ends (cloud-init docs, "Boot stages")."""
        return self.host.exists("/run/cloud-init/enabled") and not self.host.exists(
            "/run/cloud-init/result.json"
        )

    def keep(self) -> NoReturn:
        """Look after a formed node, as the lean process that the agent turns into."""
        settings = self.radio.settings
        self.insist(lambda: self.board.take_stock(inventory.take(self.host)))
        self.insist(
            lambda: keeper.hand_over(
                self.host,
                self.radio.last_said(),
                self.radio.trust.beacon_key,
                settings.network.interface,
                settings.status_page == "lan",
            )
        )
        raise AssertionError("execve(2) does not return")

    def insist(self, work: Callable[[], T]) -> T:
        """Do ``work`` until it succeeds; show why it did not, and what to do."""
        failures = 0
        while True:
            try:
                return work()
            except Blocked as error:
                failures = 0
                self.board.trouble(error, failed=False)
                asked = isinstance(error, NotAdmitted)
                self.host.clock.sleep(APPROVAL_PAUSE if asked else SHORT_PAUSE)
            except Exception as error:  # noqa: BLE001  the agent outlives any fault, and shows it
                failures += 1
                shown = as_trouble(error)
                self.board.trouble(shown, failed=needs_person(shown, failures))
                self.host.clock.sleep(pause(shown, failures))

    def _watch_packages(self) -> None:
        packagewatch.watch(self.host, self.board)

    def _pet_watchdog(self) -> None:
        while True:
            self.host.notify("WATCHDOG=1")
            self.host.clock.sleep(WATCHDOG_PERIOD)


def pause(error: NodeAgentError, failures: int) -> float:
    """Seconds until the next try, by lot: nodes that were switched on together, or turned away
    together, must not come back together."""
    seconds: float = min(SHORT_PAUSE * 2 ** min(failures, 9), LONG_PAUSE)
    if isinstance(error, NoControlPlane):
        seconds = error.wait or min(seconds, JOIN_PAUSE)
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311  no secret


def as_trouble(error: Exception) -> NodeAgentError:
    """Any exception as one with a code, a reason and a remedy."""
    if isinstance(error, NodeAgentError):
        return error
    if isinstance(error, OSError):
        return of_agent(error)
    LOG.error("a fault of the agent", exc_info=error)
    return Internal(
        f"The agent met a fault of its own: {type(error).__name__}: {error}.",
        "It tries again by itself; please report it with `journalctl -u nodeagent`.",
    )


def needs_person(error: NodeAgentError, failures: int) -> bool:
    """True where waiting alone is not likely to help."""
    if isinstance(error, NoControlPlane):
        return False
    if isinstance(error, CommandFailed | FetchFailed | DiskTrouble | Internal):
        return failures >= PATIENCE or isinstance(error, DiskTrouble)
    return True
