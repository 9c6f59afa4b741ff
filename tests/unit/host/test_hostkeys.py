"""A card's new identity with the real tools, below a temporary root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nodeagent.config.settings import Settings
from nodeagent.errors import CommandFailed
from nodeagent.host import identity
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.host.hostkeys import FOLDER, NewHostKeys
from nodeagent.steps.card_in_board import MACHINE_ID, CardInBoard
from tests.support.machine import Machine, put

OLD = "an old key"


@pytest.mark.processes
def test_each_key_is_new_and_has_its_public_half(tmp_path: Path) -> None:
    put(tmp_path, {f"{FOLDER}/ssh_host_{kind}_key{end}": OLD
                   for kind in ("ed25519", "rsa", "dsa") for end in ("", ".pub")})  # fmt: skip
    put(tmp_path, {f"{FOLDER}/sshd_config": "Port 22\n", "/run/nodeagent/hostkeys/left": "over"})
    host = Host(tmp_path)
    NewHostKeys().do(host)
    keys = [name for name in host.names(FOLDER) if name.endswith("_key")]
    assert "ssh_host_ed25519_key" in keys and "ssh_host_dsa_key" not in host.names(FOLDER)
    for name in keys:
        path = host.path(f"{FOLDER}/{name}")
        assert path.stat().st_mode & 0o777 == 0o600
        public = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True)
        kept = (host.text(f"{FOLDER}/{name}.pub") or "").split()
        assert public.stdout.split()[:2] == kept[:2]
    assert host.text(f"{FOLDER}/sshd_config") == "Port 22\n"
    assert not host.exists("/run/nodeagent/hostkeys")


def test_without_ssh_keygen_the_old_keys_stay(tmp_path: Path) -> None:
    put(tmp_path, {f"{FOLDER}/ssh_host_ed25519_key": OLD})
    host = Machine(tmp_path, {f"rm -rf {tmp_path}/run/nodeagent/hostkeys": ""})
    with pytest.raises(CommandFailed, match="ssh-keygen"):
        NewHostKeys().do(host)
    assert host.text(f"{FOLDER}/ssh_host_ed25519_key") == OLD


@pytest.mark.processes
def test_a_machine_id_of_each_cards_own(tmp_path: Path) -> None:
    """After the image is prepared, systemd's own tool makes a new id, and not out of D-Bus's."""
    old = "0123456789abcdef0123456789abcdef"
    put(tmp_path, {MACHINE_ID: old + "\n", "/var/lib/dbus/machine-id": old + "\n"})
    host = Machine(tmp_path, live=False)
    for action in CardInBoard().plan(Facts(host), Settings()):
        action.do(host)
    env = {**os.environ, "container_uuid": ""}
    subprocess.run(["systemd-machine-id-setup", "--root", tmp_path], check=True, env=env,
                   capture_output=True)  # fmt: skip
    new = Facts(host).machine_id
    assert identity.is_machine_id(new) and new != old
