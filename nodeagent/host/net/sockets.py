"""Who listens on this machine: the kernel's socket tables, and the processes behind them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.host.facts import Facts

# Linux, include/net/tcp_states.h: TCP_LISTEN; TCP_CLOSE is what an unconnected UDP socket shows.
LISTENING = {"tcp": "0A", "udp": "07"}


@dataclass(frozen=True)
class Listener:
    """A socket that waits for others, at ``address``. ``inode`` names it, see ``holder``."""

    protocol: str
    port: int
    inode: int
    address: str = ""


@dataclass(frozen=True)
class Holder:
    """The process that holds a socket: its short name, and its systemd unit (or "")."""

    pid: int
    name: str
    unit: str


def listeners(facts: Facts) -> tuple[Listener, ...]:
    """Every listening TCP socket and unconnected UDP socket, over IPv4 and IPv6."""
    return tuple(
        listener
        for protocol in LISTENING
        for version in ("", "6")
        for listener in parse(protocol, facts.text(f"/proc/net/{protocol}{version}") or "")
    )


def parse(protocol: str, table: str) -> Iterator[Listener]:
    """The listeners in the text of /proc/net/{tcp,tcp6,udp,udp6} (proc_pid_net(5)): local address
    and port in hexadecimal, state in the fourth column, inode in the tenth."""
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 10 or words[3] != LISTENING[protocol]:
            continue
        with contextlib.suppress(ValueError):
            address, _, port = words[1].partition(":")
            yield Listener(protocol, int(port, 16), int(words[9]), _address(address))


def _address(digits: str) -> str:
    """Four or 16 bytes, as numbers of 32 bits in the order of the processor, which is little-endian
    on all that is supported. Raises ValueError."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def holder(facts: Facts, inode: int) -> Holder | None:
    """The process with this socket; None for a socket of the kernel, one that is gone, or one
    that this user may not see (proc_pid_fd(5): the links of others need root)."""
    for pid in facts.names("/proc"):
        if not pid.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
            folder = f"/proc/{pid}/fd"
            for name in facts.names(folder):
                if facts.host.target(f"{folder}/{name}") == f"socket:[{inode}]":
                    comm = (facts.text(f"/proc/{pid}/comm") or "").strip()
                    return Holder(int(pid), comm, _unit(facts.text(f"/proc/{pid}/cgroup") or ""))
    return None


def _unit(cgroup: str) -> str:
    """``k3s.service`` out of ``0::/system.slice/k3s.service`` (cgroups(7), /proc/pid/cgroup)."""
    last = cgroup.strip().splitlines()[-1].rpartition("/")[2] if cgroup.strip() else ""
    return last if last.endswith(".service") else ""
