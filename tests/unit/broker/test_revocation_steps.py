"""The shipped broker takes only the steps that the proof of revocation is about
(``tests/model/revocation.py``): drawn stories, in which all that the proof says is compared with
what is so, whatever the ledger remembers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.broker import operators
from nodeagent.broker.boards import Overloaded
from nodeagent.broker.broker import Revoked, Stale, Unadmitted
from nodeagent.broker.ledger import CERTIFICATE_LIFE, Ledger
from nodeagent.errors import FleetError, Refused
from nodeagent.trust import pki
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import Trust
from tests.model import revocation
from tests.support.admission import Setup

DAY = 86400
YEAR = 365 * DAY  # of a kubelet's certificate (kube-controller-manager's default)
WISHES = ("pi-2", "pi-3")
STORIES, STEPS = 12, 60


class World:
    """What is so: which certificates live until when, and which names the cluster bars."""

    def __init__(self, setup: Setup, keys: list[NodeKey]) -> None:
        self.setup, self.keys = setup, keys
        self.lives: dict[tuple[str, str], float] = {}  # (node id, name) -> uptime
        self.barred: set[str] = set()
        self.faults: list[str] = []
        self.taken: set[str] = set()

    @property
    def ledger(self) -> Ledger:
        """What the broker remembers now."""
        return self.setup.broker.ledger

    def join(self, draw: random.Random) -> None:
        """Somebody asks, and its kubelet gets a certificate where the broker approves."""
        key, before = draw.choice(self.keys), len(self.setup.cluster.approved)
        was_revoked = self.ledger.revocation(key.node_id) is not None
        try:
            name = self.setup.join(key, draw.choice(WISHES))
        except (Revoked, Unadmitted, Stale, Overloaded, FleetError, Refused):
            return
        if len(self.setup.cluster.approved) == before:
            return
        others = [node for node, held in self.lives if held == name and node != key.node_id]
        if others or was_revoked or name in self.barred:
            self.faults.append(f"certify: {name}, others {others}, {was_revoked}, {self.barred}")
        self.lives[key.node_id, name] = self.setup.up + YEAR
        self.taken.add("certify")

    def renew(self, draw: random.Random) -> None:
        """A kubelet renews by itself, where the cluster does not bar its name."""
        for key, name in [one for one in self.lives if one[1] not in self.barred]:
            if draw.random() < 0.7:
                self.lives[key, name] = self.setup.up + YEAR

    def revoke(self, draw: random.Random) -> None:
        """A person revokes a name or a key; root tells the cluster."""
        who = draw.choice([*WISHES, *self.ledger.certificates, *(k.node_id for k in self.keys)])
        try:
            self.barred.update(operators.revoke(self.setup.broker, who)["names"])
        except Refused:
            return
        self.taken.add("revoke")

    def forget(self, draw: random.Random) -> None:
        """A person has a name forgotten, or gives back one that has ended."""
        name = draw.choice([*WISHES, *self.ledger.certificates])
        told = operators.forget(self.setup.broker, name)
        self.barred.update(told["bar"])
        self.barred.difference_update(told["let_back"])
        self.taken |= {"bar"} if told["bar"] else {"free"}

    def approve(self, draw: random.Random) -> None:
        """A person lets a key in, or back."""
        told = operators.approve(self.setup.broker, draw.choice(self.keys).node_id)
        self.barred.difference_update(told["let_back"])
        self.taken.add("approve")

    def leave(self, draw: random.Random) -> None:
        """A node takes its leave for good, as ``leave.hear`` does it."""
        if self.ledger.members:
            self.ledger.part(draw.choice(list(self.ledger.members)))
            self.taken.add("leave or be forgotten")

    def wait(self, draw: random.Random) -> None:
        """Time passes, or a clock is set; certificates end by the time that has passed."""
        self.setup.live(draw.choice((60, 700, DAY, 40 * DAY, 200 * DAY, CERTIFICATE_LIFE)))
        if draw.random() < 0.3:
            self.setup.now += draw.choice((-YEAR, -DAY, DAY, 3 * YEAR))
        ended = [one for one, end in self.lives.items() if end <= self.setup.up]
        for one in ended:
            del self.lives[one]
        self.taken |= {"end"} if ended else set()
        self.setup.broker.is_open()
        operators.seal(self.setup.broker, 3600)  # a person opens enrolment again

    def start(self, _: random.Random) -> None:
        """The broker begins anew from its file."""
        self.setup.start()

    def look(self) -> None:
        """The invariant of the proof."""
        known = {(one.node_id, name) for name, one in self.ledger.certificates.items()}
        if unknown := self.lives.keys() - known:
            self.faults.append(f"lives and is not known: {unknown}")
        for key, name in self.lives:
            if self.ledger.revocation(key) and name not in self.barred:
                self.faults.append(f"{key} is revoked, and {name} is not barred")


def lived(setup: Setup, seed: int) -> World:
    """A story; each follows from its seed."""
    draw = random.Random(seed)
    world = World(setup, [NodeKey(pki.new_key()) for _ in range(3)])
    acts: Mapping[Callable[[random.Random], None], int] = {
        world.join: 8, world.renew: 4, world.wait: 4, world.revoke: 2, world.forget: 3,
        world.approve: 2, world.leave: 2, world.start: 1,
    }  # fmt: skip
    for act in draw.choices(list(acts), list(acts.values()), k=STEPS):
        act(draw)
        world.look()
    return world


def test_the_proof_holds_and_needs_what_it_says() -> None:
    """a31: whoever left was not known to a revocation, and the name went to another at once."""
    assert revocation.faults() == []
    for broken in (revocation.LEFT_MEANS_FORGOTTEN, revocation.FREED_TOO_EARLY):
        steps = [broken if one.name == broken.name else one for one in revocation.STEPS]
        assert revocation.faults(tuple(steps)), broken.name


def test_the_broker_takes_only_its_steps(tmp_path: Path, trust: Trust) -> None:
    taken = set()
    for seed in range(STORIES):
        world = lived(Setup(tmp_path / str(seed), trust), seed)
        assert not world.faults, f"seed {seed}: {world.faults[:3]}"
        taken |= world.taken
    assert taken == {step.name for step in revocation.STEPS}


def _forgets_who_left(ledger: Ledger, *names: str) -> None:
    ledger.members = {name: one for name, one in ledger.members.items() if name not in names}
    ledger.certificates = {
        n: one for n, one in ledger.certificates.items() if n not in names or one.end
    }
    ledger._save()


def _ends_by_the_clock(ledger: Ledger, *names: str) -> None:
    end = int(ledger.lived()) + 90 * DAY
    barred = {name: replace(ledger.certificates[name], end=end) for name in names}
    ledger.certificates = {**ledger.certificates, **barred}
    ledger.part(*names)


@pytest.mark.parametrize(
    ("method", "instead"), [("part", _forgets_who_left), ("bar", _ends_by_the_clock)]
)
def test_a_broker_that_takes_others_is_seen(
    method: str, instead: Callable[..., None], tmp_path: Path, trust: Trust,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Ledger, method, instead)
    found = [lived(Setup(tmp_path / str(n), trust), n).faults for n in range(STORIES)]
    assert any(found)
