"""The real agent on a machine made of folders: ``python -m tests.support.pi_process ROOT FLEET``.

What is real: `Agent.run` from the settings to the handover, the radio, the keeper's rounds, the
question for a grant over TLS, and the network: /proc/net and /sys/class/net are the kernel's own
of this namespace. Doubles: the commands (`tests/support/programs.py`), the packages' key
server, the package's users, and the API server's word that the node is Ready.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from nodeagent.agent import keeper
from nodeagent.agent.main import Agent
from nodeagent.cluster import addresses
from nodeagent.errors import CommandFailed
from nodeagent.host.host import Host, Result
from tests.support import authority
from tests.support.firstboot import KEY_FILE
from tests.support.joining import certificate_request
from tests.support.programs import Answer, Commands

REAL = ("/proc/net", "/sys/class/net", "/sys/devices")
EVENTS = "/events"
BRANCH = 200.0  # times faster than a Pi is what the doubles of slow commands wait for
PATIENCE = 60.0  # seconds that a join waits for its certificate


class Handed(BaseException):
    """Stands for execve(2) into the keeper."""


class FleetCommands(Commands):
    """Doubles of one machine's commands, in a fleet: ``kubeadm join`` needs the broker's word.

    ``FLEET/apis/ADDRESS`` says which machine has the API server with that address.
    """

    def __init__(self, root: Path, fleet: Path) -> None:
        super().__init__(root, fleet / "store", lambda seconds: time.sleep(seconds / BRANCH))
        self.fleet = fleet

    def run(self, argv: Sequence[str], stdin: str | None) -> Answer:
        """As the base, but each file of kernel settings is taken as it is."""
        if tuple(argv[:2]) == ("sysctl", "-p"):
            for name, value in re.findall(r"^([^#\s]+) = (\S+)$", self.text(argv[2]), re.MULTILINE):
                self.write(f"/proc/sys/{name if '/' in name else name.replace('.', '/')}", value)
            return 0, "", ""
        return super().run(argv, stdin)

    def _init(self, words: Sequence[str]) -> Answer:
        answer = super()._init(words)
        found = re.search(r"^  name: (\S+)", self.text(words[-1]), re.MULTILINE)
        if answer[0] == 0 and found:
            self.write(f"/cluster/nodes/{found[1]}", "leads")
        return answer

    def _join(self, words: Sequence[str]) -> Answer:
        configuration = self.text(words[-1])
        asked = {
            key: found[1]
            for key, pattern in (
                ("token", r"tlsBootstrapToken: (\S+)"),
                ("name", r"^  name: (\S+)"),
                ("file", r"kubeConfigPath: (\S+)"),
                ("address", r"name: node-ip\n +value: (\S+)"),
            )
            if (found := re.search(pattern, configuration, re.MULTILINE))
        }
        server = re.search(r"server: https://(\S+)", self.text(asked["file"]))
        assert server is not None
        api = self.fleet / "apis" / addresses.host_of(server[1])
        if not api.exists():
            return 1, "", f"couldn't reach {server[1]}"
        cluster, token = Path(api.read_text(), "cluster"), asked["token"].partition(".")
        kept = cluster / "tokens" / token[0]
        if not kept.exists() or kept.read_text() != f"{token[2]} {asked['name']}":
            return 1, "", "Unauthorized"
        answer = super()._join(words)
        if answer[0] == 0:
            (cluster / "nodes" / asked["name"]).write_text(asked["address"])
        return answer

    def _rm(self, words: Sequence[str]) -> Answer:
        """As rm(1), which goes into a folder by what it has open and follows no link."""
        for path in map(self.path, words[3:]):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return 0, "", ""

    def obtain(
        self, host: Host, endpoint: str, ca_cert: str, token: str, name: str, key: Any
    ) -> bytes:
        """The certificate of the kubelet: asked for and approved in files."""
        api = self.fleet / "apis" / addresses.host_of(endpoint)
        if not api.exists():
            raise CommandFailed(f"{endpoint} is not there.", "Wait.")
        cluster, token_id = Path(api.read_text(), "cluster"), token.partition(".")[0]
        request = cluster / "csr" / f"{token_id}.new"
        request.write_text(json.dumps(certificate_request(token, name, key)))
        request.rename(request.with_suffix(".json"))
        end = time.monotonic() + PATIENCE
        while not (cluster / "approved" / token_id).exists():
            if time.monotonic() > end:
                raise CommandFailed("Nobody has approved it.", "Wait.")
            time.sleep(0.1)
        return authority.kubelet(name, key)


class Pi(Host):
    """A double of a Raspberry Pi below a folder, with the network of this namespace."""

    def __init__(self, root: Path, fleet: Path) -> None:
        super().__init__(root, self._command)
        self.commands = FleetCommands(root, fleet)

    @property
    def live(self) -> bool:
        """It is the running system."""
        return True

    def path(self, name: str, follow: bool = True) -> Path:
        """The kernel's files about the network are real."""
        return Path(name) if name.startswith(REAL) else super().path(name, follow)

    def user_ids(self, user: str) -> tuple[int, int]:
        """The package's users are the one who runs this."""
        return os.getuid(), os.getgid()

    def become(self, *argv: str) -> NoReturn:
        """The keeper runs in this process."""
        raise Handed

    def _command(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        if argv[0] == "sync":
            return Result(0)
        if tuple(argv) == ("systemctl", "reboot"):
            os._exit(75)
        if tuple(argv) == ("systemctl", "poweroff"):
            os._exit(76)
        result = Result(*self.commands.run(argv, stdin))
        while self.commands.ledger:
            with self.path(EVENTS).open("a") as events:
                events.write(f"{self.commands.ledger.pop(0)}\n")
        return result


def run(pi: Pi, doubles: Mapping[str, Callable[..., object]], part: str = "agent") -> None:
    """As agent.main, then as keeper.main; ``part`` "keeper": as that alone. ``doubles`` are of
    functions, by their names."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    with ExitStack() as stack:
        stack.enter_context(
            patch("nodeagent.host.actions._download", lambda url, *_: KEY_FILE.read_bytes())
        )
        for name, double in doubles.items():
            stack.enter_context(patch(name, double))
        with suppress(Handed):
            if part == "agent":
                Agent(pi).run()
                return
        kept = keeper.Keeper(pi)
        while kept.round():
            pi.clock.sleep(keeper.ROUND)


def main(root: str, fleet: str) -> None:
    """A board in a fleet of doubles."""
    pi = Pi(Path(root), Path(fleet))
    run(pi, {
        "nodeagent.agent.keeper.kubelet_healthy": lambda: True,
        "nodeagent.cluster.kubelet_certificate.obtain": pi.commands.obtain,
        "nodeagent.agent.formation.control_plane.ready": lambda host, name: pi.commands.ready(),
    })  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:3])
