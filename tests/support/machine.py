"""Doubles of a machine, and folders for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml

from nodeagent.host.host import Clock, Host, Result, Runner

KEYS = Path(__file__).parents[1] / "unit" / "steps" / "keys"
NOW = 1_795_000_000.0  # 2026-11-18, seconds since the epoch


class Time:
    """A clock that moves on only when somebody sleeps, and then at once."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def clock(self) -> Clock:
        """As Host wants it."""
        return Clock(now=lambda: self.now, monotonic=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.now += seconds


class Became(Exception):
    """The process has turned into another program."""


class Machine(Host):
    """A double of the running system: a folder is its root, commands have recorded answers.

    Every command is noted in ``ran``; one without a recorded answer is not there (status 127).
    """

    is_root = True  # whoever runs the test

    def __init__(
        self,
        root: Path,
        answers: Mapping[str, Any] | None = None,
        now: float = NOW,
        live: bool = True,
        programs: bool = False,
    ) -> None:
        self.time = Time(now)
        super().__init__(root, self._answer, self.time.clock(), programs)
        self.answers = dict(answers or {})
        self.otherwise: Runner | None = None  # answers what is not recorded
        self.ran: list[str] = []
        self.listed: dict[str, tuple[str, ...]] = {}
        self.environ = {}
        self._live = live

    def background(self, work: Callable[[], object]) -> None:
        """No threads: it is done at once."""
        work()

    @property
    def live(self) -> bool:
        """As the case says; a folder alone would always be an image."""
        return self._live

    def become(self, *argv: str) -> NoReturn:
        """As execve(2), this does not return."""
        raise Became(argv)

    def addresses(self, interface: str) -> tuple[str, ...]:
        """As the test listed them."""
        return self.listed.get(interface, ())

    def _answer(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        line = " ".join(argv)
        self.ran.append(line)
        if line not in self.answers and self.otherwise is not None:
            return self.otherwise(argv, timeout, stdin)
        answer = self.answers.get(line, {"status": 127, "err": f"{argv[0]}: command not found"})
        return Result(0, answer) if isinstance(answer, str) else Result(**answer)


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory where there is one; gone afterwards."""
    shared = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="nodeagent-", dir=shared if shared.is_dir() else None)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(root: Path, files: Mapping[str, Any]) -> None:
    """Lay out files: text, bytes, None (gone), or {link: TARGET}, {folder: true}, {key: NAME},
    {locked: PATH, by: PID} for the kernel's list with a lock on a file that is there."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.is_file() and content is None):
            path.unlink()
        if isinstance(content, Mapping):
            if "link" in content:
                path.symlink_to(content["link"])
            elif "key" in content:
                path.write_bytes((KEYS / content["key"]).read_bytes())
            elif "locked" in content:
                held = (root / content["locked"].lstrip("/")).stat()
                device = f"{os.major(held.st_dev):02x}:{os.minor(held.st_dev):02x}"
                path.write_text(
                    f"1: POSIX  ADVISORY  READ 7 00:01:2 0 EOF\n"
                    f"2: POSIX  ADVISORY  WRITE {content['by']} {device}:{held.st_ino} 0 EOF\n"
                )
            else:
                path.mkdir(exist_ok=True)
        elif content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def dpkg_status(packages: Mapping[str, str], architecture: str = "arm64") -> str:
    """A status file of dpkg out of ``name: VERSION [SELECTION [STATE [FLAG]]]``."""
    stanzas = []
    for name, text in {"dpkg": "1.22.21", **packages}.items():
        version, selection, state, flag = _words(text)
        stanzas.append(
            f"Package: {name}\nStatus: {selection} {flag} {state}\nPriority: optional\n"
            f"Architecture: {architecture}\nVersion: {version}\nDescription: {name}\n Text.\n"
        )
    return "\n".join(stanzas)


def _words(text: str) -> tuple[str, str, str, str]:
    words = text.split()
    defaults = ("", "install", "installed", "ok")
    filled = [*words, *defaults[len(words) :]]
    return filled[0], filled[1], filled[2], filled[3]


def laid_out(case: dict[str, Any], root: Path) -> Machine:
    """The machine of a case, as tests/unit/steps/test_steps.py describes it."""
    put(root, {"/var/lib/dpkg/status": dpkg_status(
        case.get("packages", {}), case.get("architecture", "arm64"))})  # fmt: skip
    if "model" in case:
        put(root, {"/proc/device-tree/model": case["model"] + "\0"})
    put(root, {"/proc/uptime": f"{case.get('uptime', 30)}.00 40.00\n"})
    put(root, case.get("files", {}))
    mounts = ("/proc/mounts", "self/mounts"), ("/proc/self/mounts", "../mounts")
    for name, other in mounts:  # one file, as proc_mounts(5) has it
        target = (root / name.lstrip("/")).parent / other
        if target.is_file() and not (root / name.lstrip("/")).exists():
            put(root, {name: {"link": other}})
    if "settings" in case:
        put(root, {"/etc/nodeagent/config.d/case.yaml": yaml.safe_dump(case["settings"])})
    live, now = case.get("live", True), case.get("now", NOW)
    return Machine(root, case.get("commands", {}), now, live is True, live == "baked")
