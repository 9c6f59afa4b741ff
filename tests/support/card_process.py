"""Whoever holds a worker's card, on the LAN: ``python -m tests.support.card_process KIND KEY NAME
SEALED ADDRESS...`` says what KIND has it say, twice a second from each of its addresses in turn.

KEY is the fleet's beacon key (hex), which every card holds. NAME and SEALED are the control
plane's: its node id, and a beacon that it sent. Nobody vouches for this one's own nodes.
"""

from __future__ import annotations

import itertools
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from nodeagent.fleet import beacon as beacons
from nodeagent.fleet.beacon import EPOCH_MAX, FORMAT, Beacon
from nodeagent.fleet.handoff import Announcement
from nodeagent.serve.mdns import message
from tests.support.speakers import Speaker, inside, seal_values, unsigned

GROUP = ("224.0.0.251", 5353)
NOWHERE = [f"10.77.0.{150 + number}" for number in range(20)]  # nobody has them
MANY = 1000
Said = Iterator[tuple[str, str]]  # instance and sealed beacon


class Card:
    """What the attacker knows."""

    def __init__(self, key: bytes, victim: str, sealed: str) -> None:
        self.key, self.sealed = key, sealed
        self.victim = replace(beacons.open_(key, sealed).beacon, node_id=victim)
        self.tick = 0

    def own(self, number: int, voucher: bytes = b"", **says: Any) -> tuple[str, str]:
        """As a node of its own, signed."""
        speaker = Speaker(10_000 + number, vouched=False)
        speaker.voucher = voucher
        says = {"boot": "f" * 16, "name": f"pi-{number}", "seq": self.tick, "address": "10.77.0.66",
                "vote": "", "vote_epoch": 0, **says}  # fmt: skip
        one: Beacon = replace(self.victim, **says)
        return speaker.node_id, speaker.seal(one, self.key)

    def forged(self, **says: Any) -> tuple[str, str]:
        """In the control plane's name, unsigned, by its counters the newest."""
        says = {"boot": "f" * 16, "seq": 2**47 + self.tick, **says}
        return self.victim.node_id, unsigned(replace(self.victim, **says), self.key)

    def any(self, values: object) -> tuple[str, str]:
        """Anything at all, in the control plane's instance."""
        return self.victim.node_id, seal_values(values, self.key)


CLAIM: dict[str, Any] = {
    "role": "control-plane", "claim": True, "ready": False, "phase": "electing",
    "fitness": (1, 9, 2**31, 1),
}  # fmt: skip


def epochs(one: Card) -> Said:
    yield one.own(1, **CLAIM, epoch=EPOCH_MAX)
    yield one.forged(epoch=EPOCH_MAX, claim=True, vote=one.victim.node_id, vote_epoch=EPOCH_MAX)


def higher_boot(one: Card) -> Said:
    yield one.forged(address="10.77.0.66")


def made_up_nodes(one: Card) -> Said:
    for number in range(one.tick * 20 % MANY, one.tick * 20 % MANY + 20):
        yield one.own(number, role="worker", claim=False, ready=False)


def made_up_rivals(one: Card) -> Said:
    for number, address in enumerate(NOWHERE):
        yield one.own(number, claim=True, ready=True, phase="ready", epoch=5, address=address)


def stolen_voucher(one: Card) -> Said:
    point = beacons.open_(one.key, one.sealed)
    yield one.own(1, point.voucher, ready=True, phase="ready", epoch=60)


def words_changed(one: Card) -> Said:
    values = inside(one.sealed, one.key)
    for place, value in ((2, "f" * 16), (7, 63), (8, False), (9, False), (11, "10.77.0.66")):
        yield one.any([*values[:place], value, *values[place + 1 :]])


def silenced(one: Card) -> Said:
    yield one.forged(phase="failed", role="worker", ready=False, claim=False)


def votes(one: Card) -> Said:
    target = one.own(0, **CLAIM, epoch=3)
    yield target
    for number in range(1, 40):
        yield one.own(number, role="auto", claim=False, ready=False, vote=target[0], vote_epoch=3)


def ends_of_counters(one: Card) -> Said:
    yield one.own(1, **CLAIM, epoch=EPOCH_MAX, seq=2**48, uptime=2**40, expected=1000)
    yield one.forged(seq=2**48, uptime=2**40, epoch=EPOCH_MAX, expected=1000)


def later_version(one: Card) -> Said:
    for number in range(40):
        yield one.any([99, Speaker(20_000 + number).node_id, "f" * 16, f"pi-{number}", [[[[[]]]]]])


def nonsense(one: Card) -> Said:
    yield from map(one.any, (
        [[[[[[[[[[]]]]]]]]]], {}, [], [FORMAT], [FORMAT, *[2**60] * 20], ["\x1b[2J"] * 20,
        [FORMAT, one.victim.node_id, "f" * 16, "\x1b[2J"], [FORMAT, *["x" * 30] * 16],
        [-1] * 30, [True] * 30, [None],
    ))  # fmt: skip


def echo(one: Card) -> Said:
    yield one.victim.node_id, one.sealed


def in_others_instances(one: Card) -> Said:
    """Its own words where others' stand, and theirs where its own."""
    yield one.victim.node_id, one.own(1, ready=True, phase="ready")[1]
    for number in range(20):
        yield one.own(number)[0], one.sealed


KINDS: dict[str, Callable[[Card], Said]] = {
    one.__name__: one
    for one in (epochs, higher_boot, made_up_nodes, made_up_rivals, stolen_voucher, words_changed,
                silenced, votes, ends_of_counters, later_version, nonsense, echo,
                in_others_instances)
}  # fmt: skip


def main(kind: str, key: str, victim: str, sealed: str, *addresses: str) -> None:
    """Until it is ended."""
    one = Card(bytes.fromhex(key), victim, sealed)
    kinds = list(KINDS.values()) if kind == "all" else [KINDS[kind]]
    sockets = []
    for address in addresses:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        sender.bind((address, GROUP[1]))
        sockets.append(sender)
    turns = itertools.cycle(sockets)
    while True:
        one.tick += 1
        for said in kinds:
            for instance, sealed in said(one):
                told = Announcement("10.77.0.66", instance, sealed, 6444, False, False)
                for packet in message.records(told):
                    next(turns).sendto(packet, GROUP)
        if one.tick == 1:
            sys.stdout.write("at it\n")
            sys.stdout.flush()
        time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
