"""Which file of name servers the kubelet gets: files in, its path or nothing out."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.cluster import resolver
from nodeagent.host.facts import Facts
from tests.support.machine import Machine, put

ETC, NM = "/etc/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"


@pytest.mark.parametrize(
    ("files", "loops", "other"),
    [
        ({}, False, ""),
        ({ETC: "nameserver 192.168.7.1\n"}, False, ""),
        ({ETC: "# nameserver 127.0.0.1\nnameserver fe80::1%eth0\n"}, False, ""),
        ({ETC: "nameserver 127.0.0.1\n"}, True, ""),
        ({ETC: "nameserver 192.168.7.1\nnameserver ::1\n"}, True, ""),
        ({ETC: "nameserver 0.0.0.0\n", NM: "nameserver 127.0.0.1\n"}, True, ""),
        ({ETC: "nameserver 127.0.0.1\n", NM: "nameserver 10.9.8.7\n"}, True, NM),
        ({ETC: "nameserver 127.0.0.53\n", resolver.RESOLVED: "nameserver 10.9.8.7\n"}, False, ""),
        ({ETC: "nameserver 10.9.8.7\n", resolver.RESOLVED: "nameserver 127.0.0.1\n"}, True, ETC),
        ({ETC: "nameserver 127.0.0.53\n", resolver.RESOLVED: "nameserver 127.0.0.1\n"}, True, ""),
    ],
)
def test_no_loop(files: dict[str, str], loops: bool, other: str, tmp_path: Path) -> None:
    put(tmp_path, files)
    facts = Facts(Machine(tmp_path))
    assert (resolver.loops(facts), resolver.other_file(facts)) == (loops, other)
