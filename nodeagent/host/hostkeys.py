"""New SSH host keys, without a moment in which the board has none."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.host.host import Host

FOLDER = "/etc/ssh"
# Left over by a power cut: keys that nobody has seen, written over by the next try.
WORKSHOP = "/run/nodeagent/hostkeys"


@dataclass(frozen=True)
class NewHostKeys:
    """Replace the SSH host keys (ssh-keygen(1), ``-A``). A running sshd keeps the old ones in
    memory until it is started again."""

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return "make new SSH host keys"

    def do(self, host: Host) -> None:
        """Raises CommandFailed, OSError; each key file is then the old one or the new one.

        Made beside, in memory, then written over the old ones one by one. A power cut between a
        key and its public half is no harm: sshd uses the first alone.
        """
        workshop = str(host.path(WORKSHOP))
        host.call("rm", "-rf", workshop)
        host.make_folder(f"{WORKSHOP}{FOLDER}", 0o700)
        host.call("ssh-keygen", "-q", "-A", "-f", workshop, timeout=600)
        names = host.names(f"{WORKSHOP}{FOLDER}")
        for name in names:
            secret = not name.endswith(".pub")
            data = host.read(f"{WORKSHOP}{FOLDER}/{name}") or b""
            host.write(f"{FOLDER}/{name}", data, 0o600 if secret else 0o644)
        for name in host.names(FOLDER):
            # Of kinds that are not made any more, such as DSA: every clone has them.
            if names and name not in names and is_host_key(name):
                host.shred(f"{FOLDER}/{name}")
        host.call("rm", "-rf", workshop)


def is_host_key(name: str) -> bool:
    """A file name of a host key or its public half (sshd_config(5), HostKey)."""
    return name.startswith("ssh_host_") and name.removesuffix(".pub").endswith("_key")
