"""A process of a board as the user that its unit names: ``python -m tests.support.users_process
USER MODULE ARGUMENT...``, where the first argument is the board's root folder.

What systemd does before is done here as root: the user's own folders, and for the broker its two
sockets. Then the user changes (setpriv(1)). One capability stays, to read what is closed to that
user (CAP_DAC_READ_SEARCH): the checkout and the Python of its venv may lie in somebody's home. It
can write nowhere but where its user may.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
from pathlib import Path

from nodeagent import paths
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol
from tests.support import pi_process

# Numbers that no machine gives to anybody (systemd, "Users, Groups, UIDs and GIDs").
USERS = {"root": 0, "nodeagent": 65_001, "nodeagent-broker": 65_002}
BROKER = "tests.support.broker_process"
FOLDERS = {
    "nodeagent": {paths.SERVE: 0o755},
    "nodeagent-broker": {paths.BROKER: 0o700, paths.BROKER_RUN: 0o755, "/cluster": 0o755},
}
SOCKETS = {  # as in the units: of whose group, mode
    broker_protocol.SOCKET: ("nodeagent", 0o660),
    broker_protocol.ROOT_SOCKET: ("root", 0o600),
}


def prepare(user: str, module: str, root: Path) -> list[socket.socket]:
    """What is there before the process: its folders and, for the broker, its listening sockets."""
    for name, mode in FOLDERS.get(user, {}).items():
        folder = root / name.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USERS[user], USERS[user], follow_symlinks=False)
    listeners = []
    for name, (group, mode) in SOCKETS.items() if module == BROKER else ():
        listener = socket.socket(socket.AF_UNIX)
        path = root / name.lstrip("/")
        listener.bind(str(path))
        os.chown(path, 0, USERS[group])
        path.chmod(mode)
        listener.listen(16)
        listener.set_inheritable(True)
        listeners.append(listener)
    return listeners


def main(user: str, *command: str) -> None:
    """Become that user, then the command."""
    if os.geteuid() != USERS[user]:
        listeners = prepare(user, command[0], Path(command[1]))
        os.environ["LISTENING"] = " ".join(str(one.fileno()) for one in listeners)
        number, only = USERS[user], "-all,+dac_read_search"
        os.execvp("setpriv", [
            "setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups",
            f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}",
            "--no-new-privs", sys.executable, "-m", "tests.support.users_process", user, *command,
        ])  # fmt: skip
    for kind in (Host, pi_process.Pi):
        kind.user_ids = lambda self, name: (USERS[name], USERS[name])  # type: ignore[method-assign]
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
