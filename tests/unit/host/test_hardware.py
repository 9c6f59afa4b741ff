"""What the board and the kernel's tables say: parsers on captured and on odd text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.host import hardware
from nodeagent.host.facts import Facts
from nodeagent.host.hardware import Power
from nodeagent.host.net import sockets
from nodeagent.host.net.sockets import Holder, Listener
from tests.support.machine import Machine, put


@pytest.mark.parametrize(("text", "expected"), [
    ("throttled=0x0\n", Power((), ())),
    ("0\n", Power((), ())),
    ("throttled=0x50005", Power(("under-voltage", "throttled"), ("under-voltage", "throttled"))),
    ("80008", Power(("soft temperature limit",), ("soft temperature limit",))),
    ("20002", Power(("frequency capped",), ("frequency capped",))),
    ("VCHI initialization failed\n", None),
    ("", None),
], ids=str)  # fmt: skip
def test_throttled(text: str, expected: Power | None) -> None:
    assert hardware.decode(text) == expected


@given(st.text(max_size=60), st.binary(max_size=200))
def test_readers_take_anything(text: str, data: bytes) -> None:
    hardware.decode(text)
    list(sockets.parse("tcp", text))
    list(sockets.parse("udp", data.decode("utf-8", "replace")))


def test_power_without_a_pi_is_not_known(tmp_path: Path) -> None:
    assert hardware.power(Facts(Machine(tmp_path))) is None


# As Linux 6.18 prints them. The second is a connection.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1
   1: 0207A8C0:192B 0907A8C0:C350 01 00000000:00000000 00:00000000 00000000     0        0 12 1
"""
UDP6 = """\
  sl  local_address remote_address  st tx_queue
 9: 000080FE00000000FF005450EF00FEBA:14E9 0:0000 07 0:0 0:0 0 0 0 13 2
"""


def test_listeners(tmp_path: Path) -> None:
    put(tmp_path, {"/proc/net/tcp": TCP, "/proc/net/udp6": UDP6})
    found = sockets.listeners(Facts(Machine(tmp_path)))
    assert found == (
        Listener("tcp", 22, 11, "0.0.0.0"),
        Listener("udp", 5353, 13, "fe80::5054:ff:bafe:ef"),
    )


def test_the_process_behind_a_socket(tmp_path: Path) -> None:
    put(tmp_path, {
        "/proc/version": "", "/proc/1/fd/0": {"link": "/dev/null"}, "/proc/1/comm": "systemd\n",
        "/proc/9/fd/4": {"link": "socket:[11]"}, "/proc/9/comm": "sshd\n",
        "/proc/9/cgroup": "0::/system.slice/ssh.service\n",
        "/proc/10/fd/4": {"link": "socket:[12]"}, "/proc/10/comm": "bash\n",
        "/proc/10/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n",
    })  # fmt: skip
    facts = Facts(Machine(tmp_path))
    assert sockets.holder(facts, 11) == Holder(9, "sshd", "ssh.service")
    assert sockets.holder(facts, 12) == Holder(10, "bash", "")
    assert sockets.holder(facts, 99) is None
