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

from nodeagent import paths, steps
from nodeagent.agent import conflict, inventory, keeper, moved, package_progress, reset
from nodeagent.agent.announcer import Announcer
from nodeagent.agent.formation import Formation
from nodeagent.agent.reporter import Reporter
from nodeagent.cluster import kubeadm_state, membership, networks
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
from nodeagent.host import identity
from nodeagent.host.actions import Reboot
from nodeagent.host.boot import files
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.reboot import reboot
from nodeagent.statefile import StateFile
from nodeagent.steps import engine
from nodeagent.trust import store
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
        self.reporter = Reporter(host)
        self.state_file: StateFile
        self.announcer: Announcer

    def run(self) -> None:
        """The life of a node (design: prepare, announce, decide, form, keep)."""
        self.host.background(self._pet_watchdog)
        self.host.background(self._watch_packages)
        self.reporter.enter("preparing", "Reading the settings")
        self.host.notify("READY=1")
        self.state_file = self.insist(lambda: StateFile(self.host))
        self.insist(lambda: reset.resume(self.host, self.reporter, self.state_file))
        settings = self.insist(self.settings)
        reboots = self.insist(lambda: self.sequence(steps.CARD))
        self.insist(self.settle_in)
        self.insist(lambda: self.reporter.take_stock(inventory.take(self.host)))
        self.reporter.set(detail="Reading the fleet's keys")
        trust = self.insist(lambda: store.import_card(self.host, self.state_file))
        key = self.insist(lambda: NodeKey.load_or_create(self.host))
        self.insist(
            lambda: conflict.give_way(self.host, self.reporter, self.state_file, trust, key)
        )
        self.announcer = Announcer(self.host, self.reporter, self.state_file, trust, key, settings)
        self.host.background(self.announcer.run)

        reboots += self.insist(lambda: self.sequence(steps.KERNEL))
        if reboots:
            self.insist(lambda: self.reboot(reboots))
        self.announcer.elect()
        with moved.noted(self.host, self.reporter, self.state_file):
            self.insist(lambda: self.sequence(steps.SOFTWARE))

        formation = Formation(self.host, self.reporter, self.state_file, self.announcer, trust, key)
        self.insist(formation.form)
        self.keep()

    def settings(self) -> Settings:
        """All layers of settings. Raises ConfigError, OSError."""
        return config.load(self.host).settings

    def settle_in(self) -> None:
        """What was claimed and measured on another board does not count on this one; a member's
        card in another board is shown and noted, once for each board."""
        facts = Facts(self.host)
        if membership.is_member(facts):
            networks.learn_pod_network(self.host)  # an earlier nodeagent has not
        note = membership.moved_note(facts)
        self.reporter.set(notes=[note] if note else [])
        if (
            self.state_file.values["role"] is None
            and kubeadm_state.read(self.host) is State.CONTROL_PLANE
        ):
            # The power went between the cluster and the journal: the election is over all the same.
            born = int(self.host.clock.now())
            self.state_file.set(role="control-plane", initialised=True, born=born)
        here, before = identity.usable_serial(facts.serial), self.state_file.values["board"]
        if not here or here == before:
            return
        if before:
            LOG.info("the card was on board %s, it is on board %s now. %s", before, here, note)
            self.state_file.note("another board", before=before, now=here)
            if not membership.is_member(facts):
                self.state_file.set(claim=None, fsync_ms=None)
        self.state_file.set(board=here)

    def sequence(self, sequence: tuple[steps.Step, ...]) -> list[Reboot]:
        """Bring the steps to hold with the settings of now."""
        self.reporter.enter("preparing", "Looking for what is left to do")
        settings = self.settings()
        return engine.run(sequence, self.host, settings, self.state_file, self.reporter.progress)

    def reboot(self, reboots: list[Reboot]) -> NoReturn:
        """Reboot once for all reasons, recorded before it happens.

        Bounded, it waits for what a reboot would spoil: cloud-init works through its modules once
        only, and an update that is booted on trial would be taken for a bad one.
        """
        self.reporter.enter("rebooting", "; ".join(wish.reason for wish in reboots))
        deadline = self.host.clock.monotonic() + REBOOT_BOUND
        while (
            self._cloud_init_runs() or files.on_trial(self.host)
        ) and self.host.clock.monotonic() < deadline:
            self.host.clock.sleep(1)
        engine.ask_reboot(reboots, self.host, self.state_file)
        reboot(self.host)
        while True:  # systemd ends this process
            self.host.clock.sleep(LONG_PAUSE)

    def _cloud_init_runs(self) -> bool:
        """It writes result.json when its final stage ends (cloud-init docs, "Boot stages")."""
        return self.host.exists("/run/cloud-init/enabled") and not self.host.exists(
            paths.CLOUD_INIT_RESULT
        )

    def keep(self) -> NoReturn:
        """Look after a formed node, as the lean process that the agent turns into."""
        settings = self.announcer.settings
        self.insist(lambda: self.reporter.take_stock(inventory.take(self.host)))
        self.insist(
            lambda: keeper.hand_over(
                self.host,
                self.announcer.last_said(),
                self.announcer.voice,
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
                self.reporter.trouble(error, failed=False)
                asked = isinstance(error, NotAdmitted)
                self.host.clock.sleep(APPROVAL_PAUSE if asked else SHORT_PAUSE)
            except Exception as error:  # noqa: BLE001  the agent outlives any fault, and shows it
                failures += 1
                shown = as_trouble(error)
                self.reporter.trouble(shown, failed=needs_person(shown, failures))
                self.host.clock.sleep(pause(shown, failures))

    def _watch_packages(self) -> None:
        package_progress.watch(self.host, self.reporter)

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
        f"The agent ran into a fault of its own: {type(error).__name__}: {error}.",
        "It tries again by itself; please report it with `journalctl -u nodeagent`.",
    )


def needs_person(error: NodeAgentError, failures: int) -> bool:
    """True where waiting alone is not likely to help."""
    if isinstance(error, NoControlPlane):
        return False
    if isinstance(error, CommandFailed | FetchFailed | DiskTrouble | Internal):
        return failures >= PATIENCE or isinstance(error, DiskTrouble)
    return True
