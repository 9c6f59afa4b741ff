"""Host: the only door to files, processes, users and time.

Everything above this module gets a Host as an argument, so that tests can put a folder, a
recorded machine or a machine that loses power in its place.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, Protocol, TextIO

from nodeagent.errors import AGENT_TRIES, AlreadyExists, CommandFailed, Refused
from nodeagent.host import durable

# A small, fixed environment: commands must not change with who started the agent.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}
MAX_LINKS = 40  # as ELOOP in path_resolution(7)


@dataclass(frozen=True)
class Result:
    """What a command answered: exit status, standard output and standard error as text."""

    status: int
    out: str = ""
    err: str = ""


def accepted(argv: Sequence[str], result: Result, accept: tuple[int, ...] = (0,)) -> str:
    """The output of a command that ended with an accepted status. Raises CommandFailed, which
    tells the last lines of what it said."""
    if result.status not in accept:
        said = (result.err.strip() or result.out.strip()).splitlines()
        raise CommandFailed(
            f"`{' '.join(argv)}` ended with status {result.status}: "
            f"{' / '.join(said[-3:]) or 'it said nothing'}.",
            AGENT_TRIES,
        )
    return result.out


class Runner(Protocol):
    """Runs one command. ``argv`` is never given to a shell; ``timeout`` is in seconds."""

    def __call__(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result: ...


def run_process(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
    """The real Runner. Status 127: no such command; 124: out of time (as timeout(1))."""
    import subprocess  # here, since `nodeagent status` runs nothing and answers at once

    # No pipes: SIGPIPE would end a command that outlives the agent (KillMode=process) at its next
    # word (pipe(7)).
    with _memory() as out, _memory() as err:
        try:
            done = subprocess.run(
                list(argv),
                input=stdin or "",
                stdout=out,
                stderr=err,
                text=True,
                timeout=timeout,
                env=ENVIRONMENT,
                check=False,
            )
        except FileNotFoundError:
            return Result(127, "", f"{argv[0]}: command not found")
        except subprocess.TimeoutExpired:
            return Result(124, "", f"{argv[0]}: no end within {timeout:.0f} s")
        for file in (out, err):
            file.seek(0)
        return Result(done.returncode, out.read(), err.read())


def _memory() -> TextIO:
    """A file in memory, without a name (memfd_create(2))."""
    return os.fdopen(os.memfd_create("output"), encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Clock:
    """Time as the host sees it: ``now`` in seconds since the epoch, ``monotonic``, ``sleep``."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Host:
    """The machine, or a mounted image of one, below ``root``.

    Paths are absolute as on the machine; symlinks are resolved as if ``root`` were ``/``, so
    that no link can lead out of it (the idea of chroot(2)).
    """

    def __init__(
        self,
        root: Path = Path("/"),
        run: Runner = run_process,
        clock: Clock | None = None,
        programs: bool = False,
    ) -> None:
        """``programs``: ``run`` runs the programs of the system below ``root``, as chroot(1)."""
        self.root = root
        self._own_system = root == Path("/")
        self.clock = clock or Clock()
        self.environ: Mapping[str, str] = os.environ
        self._run = run
        self._programs = programs

    @property
    def live(self) -> bool:
        """True where the root is the running system's own: commands and kernel count."""
        return self._own_system

    @property
    def has_programs(self) -> bool:
        """True where the system's own programs can be run: on the running system, and in an image
        that is being baked, where none of its services runs."""
        return self.live or self._programs

    @property
    def is_root(self) -> bool:
        """True where this process is root's."""
        return os.geteuid() == 0

    @property
    def sudo_user(self) -> tuple[int, int] | None:
        """User and group id of who called sudo (sudo(8), SUDO_UID); None where nobody did."""
        uid, gid = (self.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID"))
        return (int(uid), int(gid)) if uid.isdecimal() and gid.isdecimal() else None

    def user_ids(self, user: str) -> tuple[int, int] | None:
        """User and group id of a user of the running system; None where there is no such user."""
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            return None
        return entry.pw_uid, entry.pw_gid

    def path(self, name: str, follow: bool = True) -> Path:
        """Where ``name`` lies in the outer file system, symlinks resolved inside the root.

        ``follow=False`` leaves a symlink in the last place as it is. A link that somebody other
        than root and this user made, or may replace, is not followed.
        Raises OSError (ELOOP) for such a link, and for a circle of links.
        """
        todo = list(PurePosixPath("/", name).parts[1:])
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                if done:
                    done.pop()
                continue
            here = self.root.joinpath(*done, part)
            if here.is_symlink() and (follow or todo):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, "too many levels of symbolic links", name)
                makers = {here.lstat().st_uid, here.parent.stat().st_uid}
                if not makers <= {0, os.geteuid()}:
                    raise OSError(errno.ELOOP, "a link of another user", name)
                target = PurePosixPath(here.readlink())
                if target.is_absolute():
                    done = []
                todo = [p for p in target.parts if p != "/"] + todo
                continue
            done.append(part)
        return self.root.joinpath(*done)

    def _seen(self, name: str) -> Path:
        """Where to read ``name``. The kernel follows the running system's links by itself, which
        costs a tenth of ``path``: the agent looks at some dozens of files each second."""
        return Path("/", name) if self._own_system else self.path(name)

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is no such file. Raises OSError, also for what
        is no regular file: a pipe may never end."""
        path = self._seen(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "It is no regular file")
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    return file.read()
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # fstat(2) and read(2) do not say of which file
            raise OSError(error.errno, error.strerror, str(path)) from error

    def text(self, name: str) -> str | None:
        """As ``read``, decoded; bytes that are not UTF-8 become U+FFFD."""
        data = self.read(name)
        return None if data is None else data.decode("utf-8", "replace")

    def exists(self, name: str) -> bool:
        """True for an existing file or folder."""
        return self._seen(name).exists()

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder; empty where there is none."""
        where = self._seen(folder)
        return sorted(entry.name for entry in where.iterdir()) if where.is_dir() else []

    def mode(self, name: str) -> int | None:
        """Permission bits of a file, or None where there is none."""
        try:
            return self._seen(name).stat().st_mode & 0o7777
        except FileNotFoundError:
            return None

    def changed(self, name: str) -> int:
        """When a file was last changed, in nanoseconds since the epoch; 0 where there is none that
        this user can see."""
        try:
            return self._seen(name).stat().st_mtime_ns
        except OSError:
            return 0

    def target(self, name: str) -> str | None:
        """What a symlink points to, as written in it; None where ``name`` is no symlink. Raises
        OSError."""
        path = self.path(name, follow=False)
        return str(path.readlink()) if path.is_symlink() else None

    def space(self, name: str) -> tuple[int, int]:
        """Free and all bytes of the file system that ``name`` is on, as an ordinary user may use
        them (statvfs(3)). Raises OSError."""
        found = os.statvfs(self.path(name))
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def addresses(self, interface: str) -> tuple[str, ...]:
        """The IPv4 addresses of an interface of the running system in the kernel's order, the main
        one first (getifaddrs(3)); none on an image."""
        if not self.live:
            return ()
        import netifaces  # only where the files under /proc do not tell

        try:
            entries = netifaces.ifaddresses(interface).get(netifaces.AF_INET, [])
        except ValueError:  # there is no such interface
            return ()
        return tuple(str(entry["addr"]) for entry in entries)

    def write(
        self, name: str, data: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None
    ) -> None:
        """Write a file durably, see ``durable.write``. Raises OSError."""
        durable.write(self.path(name), data, mode, owner)

    def create(self, name: str, data: bytes, owner: tuple[int, int] | None) -> None:
        """Make a new file for a person, see ``durable.create``. Raises Refused where something is
        there, or where that person may not make files; OSError."""
        try:
            durable.create(self.path(str(PurePosixPath(name).parent)) / PurePosixPath(name).name,
                           data, owner)  # fmt: skip
        except FileExistsError as error:
            raise AlreadyExists(
                f"{name} is already there.", "Choose another name, or move the file away."
            ) from error
        except PermissionError as error:
            raise Refused(
                f"The user who called sudo may not make {name}.",
                "Choose a folder of theirs, or one of root's.",
            ) from error

    def replace_secret(self, name: str, data: bytes, owner: tuple[int, int] | None = None) -> None:
        """Write a key durably, 0600; the old one is overwritten, see ``durable.replace_secret``.
        Raises OSError."""
        durable.replace_secret(self.path(name), data, 0o600, owner)

    def give(self, name: str, owner: tuple[int, int]) -> None:
        """Change owner and group of a file or folder. Raises OSError."""
        os.chown(self.path(name), *owner)

    def set_attribute(self, name: str, value: str) -> None:
        """Set a kernel's attribute in /sys, see ``durable.set_attribute``. Raises OSError."""
        durable.set_attribute(self.path(name), value)

    def link(self, name: str, target: str) -> None:
        """Make ``name`` a symlink to ``target``, replacing what is there, durably."""
        path = self.path(name, follow=False)
        durable.make_folder(path.parent)
        temporary = path.with_name(f".{path.name}{durable.TEMPORARY}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(path)
        durable.sync_folder(path.parent)

    def overwrite(self, name: str, data: bytes) -> None:
        """Overwrite in place with the same length, see ``durable.overwrite``."""
        durable.overwrite(self.path(name), data)

    def scrub(self, name: str) -> None:
        """Overwrite a file, or all in a folder, with zeros, see ``durable.scrub``; a missing one is
        no error. Raises OSError."""
        durable.scrub(self.path(name, follow=False))

    def shred(self, name: str) -> None:
        """Overwrite and remove a secret file, see ``durable.shred``. Raises OSError."""
        durable.shred(self.path(name, follow=False))

    def make_folder(self, name: str, mode: int = 0o755) -> None:
        """Make a folder and its parents durably. Raises OSError."""
        durable.make_folder(self.path(name), mode)

    def make_readable_folder(self, name: str, group: int | None) -> None:
        """Make a folder of this user's that a group may read, see ``durable``. Raises OSError."""
        durable.make_readable_folder(self.path(name, follow=False), group)

    def remove(self, name: str) -> None:
        """Remove a file or link durably; a missing one is no error. Raises OSError."""
        durable.remove(self.path(name, follow=False))

    def remove_empty(self, name: str) -> None:
        """Remove a folder durably where it is empty; a missing one is no error. Raises OSError."""
        durable.remove_empty(self.path(name))

    def run(self, *argv: str, timeout: float = 60, stdin: str | None = None) -> Result:
        """Run a command and give its result, whatever its status."""
        return self._run(argv, timeout, stdin)

    def call(
        self,
        *argv: str,
        timeout: float = 60,
        stdin: str | None = None,
        accept: tuple[int, ...] = (0,),
    ) -> str:
        """Run a command that must end with an accepted status and give its output.

        Raises CommandFailed.
        """
        return accepted(argv, self.run(*argv, timeout=timeout, stdin=stdin), accept)

    def become(self, *argv: str) -> NoReturn:
        """Turn this process into another program (execve(2)). Raises OSError."""
        os.execv(argv[0], argv)  # noqa: S606  no shell is wanted

    def background(self, work: Callable[[], object]) -> None:
        """Do ``work`` in a thread that ends with the process."""
        threading.Thread(target=work, daemon=True).start()

    def notify(self, message: str) -> None:
        """Tell systemd, where it started this process (sd_notify(3))."""
        if self.live and self.environ.get("NOTIFY_SOCKET"):
            import systemd.daemon as daemon  # seldom needed elsewhere

            daemon.notify(message)
