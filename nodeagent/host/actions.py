"""Actions: the effects a step can ask for, as frozen values, how each is done and shown."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nodeagent import paths
from nodeagent.errors import FetchFailed, NodeAgentError
from nodeagent.host import parse
from nodeagent.host.apt import openpgp
from nodeagent.host.apt.actions import Apt, AptInstall, AptUpdate
from nodeagent.host.host import Host
from nodeagent.host.hostkeys import NewHostKeys

LOG = logging.getLogger("nodeagent")

MAX_KEY_SECONDS = 60.0  # for the whole of it: a server may send a byte now and then for ever
MAX_KEY_BYTES = 64 * 1024  # the keys of Kubernetes and Docker have 1 and 4 KiB
MAX_FILE_SECONDS = 600.0  # a Pi 3 takes half a minute for a megabyte
MAX_FILE_BYTES = 4 * 1024 * 1024  # the largest manifests of pod networks have half a megabyte


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
    """Remove a file or symlink; a missing one is no error.

    ``folder``: and the folder it was in, where nothing else is in it. ``secret``: its content is
    overwritten first.
    """

    path: str
    folder: bool = False
    secret: bool = False

    file_only = True

    def show(self) -> str:
        """One line for people."""
        return f"remove {self.path}"

    def do(self, host: Host) -> None:
        """Raises OSError."""
        if self.secret:
            host.scrub(self.path)
        host.remove(self.path)
        if self.folder:
            host.remove_empty(str(PurePosixPath(self.path).parent))


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
        host.call(*self.argv, timeout=self.timeout, stdin=self.stdin, accept=self.accept)


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


@dataclass(frozen=True)
class FetchKey:
    """Fetch a repository's OpenPGP key over the network and keep it where apt finds it.

    ``fingerprint`` (40 hexadecimal digits) is what makes the key believed, wherever it came from.
    ``noted`` makes it a best effort, for a node that needs the key for nothing now: the seconds
    since boot are kept in this file, and a failure is for the log only.
    """

    url: str
    path: str
    fingerprint: str
    noted: str = ""

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return f"fetch the key {self.fingerprint[-16:]} from {self.url}"

    def do(self, host: Host) -> None:
        """Raises FetchFailed where the key cannot be had or is another one; OSError. Writes
        nothing then."""
        if not self.noted:
            self._fetch(host)
            return
        uptime = parse.seconds_up(host.text(paths.UPTIME) or "")
        try:
            host.write(self.noted, f"{uptime:.0f}\n".encode())
            self._fetch(host)
        except (NodeAgentError, OSError) as error:
            LOG.warning("%s It is tried again tomorrow; nothing here depends on it.", error)

    def _fetch(self, host: Host) -> None:
        data = _download(self.url, MAX_KEY_BYTES, MAX_KEY_SECONDS, "a key")
        try:
            key = openpgp.read_key(data)
        except openpgp.BadKey as error:
            raise FetchFailed(
                f"{self.url} answered with something other than a key: {error}.",
                "Check the repository's address in the settings, and what stands between.",
            ) from error
        if key.fingerprint != self.fingerprint:
            raise FetchFailed(
                f"{self.url} answered with the key {key.fingerprint}, expected is"
                f" {self.fingerprint}. Nothing of it was used.",
                "If the publisher has changed the key, write its fingerprint into the settings.",
            )
        if key.expired(host.clock.now()):
            raise FetchFailed(
                f"The key of {self.url} has expired by this board's clock.",
                "Check the clock; if it is right, the publisher has to renew the key.",
            )
        host.write(self.path, key.packets, 0o644)


@dataclass(frozen=True)
class FetchFile:
    """Fetch a file over the network, which is believed by its SHA-256 (64 hexadecimal digits)."""

    url: str
    path: str
    sha256: str

    file_only = False

    def show(self) -> str:
        """One line for people."""
        return f"fetch {self.url}"

    def do(self, host: Host) -> None:
        """Raises FetchFailed where it cannot be had or is another one, OSError. Writes nothing
        then."""
        data = _download(self.url, MAX_FILE_BYTES, MAX_FILE_SECONDS, "a manifest")
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise FetchFailed(
                f"{self.url} has the SHA-256 {found}, and the settings want {self.sha256}. Nothing"
                " of it was used.",
                "If it is the right file, write its hash into the settings.",
            )
        host.write(self.path, data)


def _download(url: str, most: int, seconds: float, what: str) -> bytes:
    """The content of a file of so many bytes at most, in so many seconds. Raises FetchFailed."""
    import requests  # here, since it is heavy and most runs need no key

    deadline = time.monotonic() + seconds
    try:
        with requests.get(url, timeout=(10, 30), stream=True) as answer:
            answer.raise_for_status()
            data = bytearray()
            # One byte at a time: a larger piece is waited for until it is whole.
            for piece in answer.iter_content(1):
                data += piece
                if time.monotonic() > deadline:
                    raise FetchFailed(
                        f"{url} sent only {len(data)} bytes in {seconds:.0f} s.",
                        "Check the network; the agent tries again by itself.",
                    )
                if len(data) > most:
                    raise FetchFailed(
                        f"{url} sent more than {most} bytes instead of {what}.",
                        "Check the address in the settings.",
                    )
            return bytes(data)
    except requests.RequestException as error:
        raise FetchFailed(
            f"{url} could not be fetched: {cause(error)}.",
            "Check the network and the address in the settings; the agent tries again by itself.",
        ) from error


def cause(error: BaseException) -> str:
    """The innermost cause: requests wraps plain reasons in several layers of text."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = inner, inner.__context__
    return str(error).rstrip(".") or type(error).__name__


Action = (
    Write
    | Remove
    | Link
    | Run
    | Enable
    | Reboot
    | FetchKey
    | FetchFile
    | Apt
    | AptUpdate
    | AptInstall
    | NewHostKeys
)
