"""Actions: the effects a step can ask for, as frozen values, how each is done and shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeagent.errors import CommandFailed
from nodeagent.host.host import Host


@dataclass(frozen=True)
class Write:
    """Write a whole file durably. ``secret`` content is never shown."""

    path: str
    content: bytes
    mode: int = 0o644
    secret: bool = False

    file_only = True

    def show(self) -> str:
        """One line for people."""
        return f"write {self.path} ({len(self.content)} bytes, mode {self.mode:04o})"

    def do(self, host: Host) -> None:
        """Raises OSError."""
        host.write(self.path, self.content, self.mode)


@dataclass(frozen=True)
class Remove:
    """Remove a file or symlink; a missing one is no error."""

    path: str

    file_only = True

    def show(self) -> str:
        """One line for people."""
        return f"remove {self.path}"

    def do(self, host: Host) -> None:
        """Raises OSError."""
        host.remove(self.path)


@dataclass(frozen=True)
class Link:
    """Make a symlink, for example to /dev/null, which is how systemd masks a unit
    (systemctl(1), ``mask``)."""

    path: str
    target: str

    file_only = True

    def show(self) -> str:
        """One line for people."""
        return f"link {self.path} -> {self.target}"

    def do(self, host: Host) -> None:
        """Raises OSError."""
        host.link(self.path, self.target)


@dataclass(frozen=True)
class Run:
    """Run a command. ``timeout`` in seconds; ``accept`` lists the exit statuses that are well."""

    argv: tuple[str, ...]
    timeout: float = 120
    accept: tuple[int, ...] = (0,)
    stdin: str | None = field(default=None, repr=False)

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return f"run {' '.join(self.argv)}"

    def do(self, host: Host) -> None:
        """Raises CommandFailed."""
        result = host.run(*self.argv, timeout=self.timeout, stdin=self.stdin)
        if result.status not in self.accept:
            said = (result.err.strip() or result.out.strip()).splitlines()
            raise CommandFailed(
                f"`{' '.join(self.argv)}` ended with status {result.status}: "
                f"{' / '.join(said[-3:]) or 'it said nothing'}.",
                "The agent tries again by itself; `journalctl -u nodeagent` has the whole story.",
            )


@dataclass(frozen=True)
class Enable:
    """Enable a systemd unit, and start it where ``now``."""

    unit: str
    now: bool = True

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return f"enable {self.unit}{' and start it' if self.now else ''}"

    def do(self, host: Host) -> None:
        """Raises CommandFailed."""
        flags = ("--now",) if self.now else ()
        host.call("systemctl", "enable", *flags, self.unit, timeout=180)


@dataclass(frozen=True)
class Reboot:
    """Ask for one reboot; the engine collects them. ``token`` names what the reboot is for:
    the same token is never asked for twice (the engine then stops with ``verdict``)."""

    token: str
    reason: str
    verdict: str
    remedy: str

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return f"reboot: {self.reason}"

    def do(self, host: Host) -> None:
        """Done by the engine, which collects reboots into one."""


Action = Write | Remove | Link | Run | Enable | Reboot
