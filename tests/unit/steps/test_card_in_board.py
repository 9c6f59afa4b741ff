"""A cloned card in a board of its own, with the power cut at every point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nodeagent import steps
from nodeagent.cluster.membership import BOARD_FILE
from nodeagent.host import identity
from nodeagent.host.host import Result
from nodeagent.host.hostkeys import FOLDER, WORKSHOP
from nodeagent.steps.card_in_board import MACHINE_ID
from nodeagent.trust import node_key
from tests.support.machine import put
from tests.support.powercut import WAYS, Disk, PowerCut, VirtualPi, prepare

OLD_ID = "0123456789abcdef0123456789abcdef"
KEY = "ssh_host_ed25519_key"
CLONE = {
    BOARD_FILE: "10000000aaaaaa11\n",
    node_key.PATH: "the node key of the other",
    MACHINE_ID: OLD_ID + "\n",
    "/var/lib/dbus/machine-id": OLD_ID + "\n",
    f"{FOLDER}/{KEY}": "old",
    f"{FOLDER}/{KEY}.pub": "old",
    "/etc/hostname": "pi-aaaa11\n",
}


class Clone(VirtualPi):
    """A double of a board with a cloned card; systemd makes a machine id where there is none."""

    def boot(self) -> None:
        super().boot()
        self._machine_id()
        self.disk.settle()

    def _machine_id(self) -> None:
        if not (self.text(MACHINE_ID) or "").strip():
            dbus = self.text("/var/lib/dbus/machine-id")
            put(self.root, {MACHINE_ID: dbus or f"{self.boots:032x}\n"})

    def _command(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        self.disk.step()
        if argv[0] == "systemd-machine-id-setup":
            self._machine_id()
        elif argv[0] == "ssh-keygen":
            put(self.root, {f"{WORKSHOP}{FOLDER}/{KEY}{end}": "new" for end in ("", ".pub")})
        self.disk.step()
        return Result(0)


def run_until(pi: Clone, cut_at: int | None, way: str) -> bool:
    """With a cut at one call; True where it was reached. Power is on again then."""
    pi.disk.calls, pi.disk.cut_at = 0, cut_at
    try:
        with pi.disk.watched():
            prepare(pi, steps.CARD)
    except PowerCut:
        pi.disk.cut(way)
        assert pi.text(f"{FOLDER}/{KEY}") in ("old", "new"), "never a board without host keys"
        pi.boot()
        return True
    return False


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_anywhere(way: str, tmp_path: Path) -> None:
    put(tmp_path, CLONE)
    pi = Clone(tmp_path, Disk(tmp_path))
    card = pi.disk.tree()
    assert not run_until(pi, None, way)
    calls, boots = pi.disk.calls, pi.boots
    assert boots == 2 and calls > 25
    for cut_at in range(1, calls + 1):
        pi.disk.become(card)
        pi.boot()
        assert run_until(pi, cut_at, way)
        assert not run_until(pi, None, way)
        assert identity.is_machine_id((pi.text(MACHINE_ID) or "").strip())
        assert pi.text(MACHINE_ID) != CLONE[MACHINE_ID]
        assert pi.text(f"{FOLDER}/{KEY}") == pi.text(f"{FOLDER}/{KEY}.pub") == "new"
        assert (
            pi.text(BOARD_FILE) == "10000000abcdef12\n"
            and pi.text("/etc/hostname") == "pi-cdef12\n"
        )
        assert not pi.exists(node_key.PATH)
