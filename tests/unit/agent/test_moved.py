"""Addresses that change: which are followed, which are waited out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nodeagent import paths
from nodeagent.agent.moved import STEADY, Moved
from nodeagent.cluster import names
from nodeagent.host.facts import Facts
from nodeagent.statefile import StateFile
from tests.support.machine import Machine, put
from tests.unit.cluster.test_addresses import HEAD, sysfs

WIRED, WIRELESS = "192.168.1.23", "192.168.1.99"
# The same network on both; a default route for each that is up (proc_pid_net(5), route).
NETWORK = "{0}\t0001A8C0\t00000000\t0001\t0\t0\t{1}\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "{0}\t00000000\t0101A8C0\t0003\t0\t0\t{1}\t00000000\t0\t0\t0\n"
UP = {"eth0": ("100", WIRED), "wlan0": ("600", WIRELESS)}
LOOK = 10  # seconds, as the keeper's


def up(machine: Machine, *interfaces: str) -> None:
    """These have their lease, the others have no cable or no radio."""
    routes = "".join((DEFAULT + NETWORK).format(one, UP[one][0]) for one in interfaces)
    own = "".join(f" |-- {UP[one][1]}\n    /32 host LOCAL\n" for one in interfaces)
    put(machine.root, {"/proc/net/route": HEAD + routes, "/proc/net/fib_trie": f"Local:\n{own}"})


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A member at its wired address, with both interfaces."""
    flags = f'KUBELET_KUBEADM_ARGS="--node-ip={WIRED}"'
    put(tmp_path, {paths.KUBELET_FLAGS: flags, **sysfs("eth0"), **sysfs("wlan0")})
    made = Machine(tmp_path)
    monkeypatch.setattr(made, "addresses", lambda interface: (UP[interface][1],))
    return made


def follows(machine: Machine, looks: Sequence[Sequence[str]], interface: str = "auto") -> list[int]:
    """In which of the looks, each with these interfaces up, the address was followed."""
    moved, found = Moved(machine), []
    for number, interfaces in enumerate(looks):
        up(machine, *interfaces)
        if moved.elsewhere(interface):
            found.append(number)
            now = Facts(machine).address(interface) or ""
            StateFile(machine).note(names.MOVED, now=now)
            put(machine.root, {paths.KUBELET_FLAGS: f'KUBELET_KUBEADM_ARGS="--node-ip={now}"'})
        machine.time.sleep(LOOK)
    return found


BOTH, AIR = ("eth0", "wlan0"), ("wlan0",)
SHORT, LONGER, LONG = (int(seconds) // LOOK for seconds in STEADY)


def test_a_cable_that_is_pulled_is_followed_and_back_only_after_a_while(machine: Machine) -> None:
    looks = [*[BOTH] * 3, *[AIR] * 30, *[BOTH] * 30, *[AIR] * (LONG + 9)]
    assert follows(machine, looks) == [3 + SHORT, 33 + LONGER, 63 + LONG]


@pytest.mark.parametrize(("each", "followed"), [(6, [SHORT]), (9, [SHORT, 9 + LONGER])])
def test_interfaces_that_swap_all_the_time_move_a_node_hardly_ever(
    each: int, followed: list[int], machine: Machine
) -> None:
    """Each time for so many looks, for a whole day."""
    looks = [*[AIR] * each, *[BOTH] * each] * (4320 // each)
    assert follows(machine, looks) == followed


def test_one_that_does_not_stay_moves_nothing_even_if_it_stays_longer_later(
    machine: Machine,
) -> None:
    looks = [*[AIR] * SHORT, BOTH, *[AIR] * (LONG - 1), BOTH] * 100
    assert follows(machine, looks) == []


def test_the_interface_of_the_settings_is_the_one(machine: Machine) -> None:
    """Whatever the routes say; and while it has no address, nothing is followed."""
    assert follows(machine, [BOTH, *[AIR] * LONG, *[BOTH] * 9], "eth0") == []
