"""A double of a disk that forgets what was not synced, and of a Pi that boots from it.

What os.fsync(2) promises and no more: of a file its content, of a folder its entries. The calls
of the module ``os`` are watched while they act on a real folder; ``cut`` leaves there what a
power cut would leave, in one of two ways that file systems are seen to do it:

* ``lost``: no unsynced entry reached the disk;
* ``reordered``: all entries did, and of unsynced files the content did not, so they are empty.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodeagent.host.host import Clock, Host, Result
from tests.unit.machine import NOW, put

WATCHED = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir", "symlink")
VOLATILE = ("proc", "sys", "dev", "run")
SYSCTLS = (
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
)
WAYS = ("lost", "reordered")

Tree = dict[str, tuple[str, Any]]  # path -> (kind, content, target or None)


class PowerCut(BaseException):
    """The plug is pulled. No ``except Exception`` of the agent stops it."""


class Disk:
    """A folder that remembers which of its content is durable; at first all of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls = 0
        self.cut_at: int | None = None
        self.settle()

    def settle(self) -> None:
        """What is there now is on the disk."""
        self._synced: dict[int, bytes] = {}
        self._entries: dict[int, list[str]] = {}
        self._known: dict[tuple[int, str], tuple[str, Any]] = {}
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.root:
                folders[:] = [name for name in folders if name not in VOLATILE]
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    self._synced[path.stat().st_ino] = path.read_bytes()
            self._remember(Path(folder))

    def step(self) -> None:
        """One more thing happens; raises PowerCut where it is the one that does not."""
        self.calls += 1
        if self.calls == self.cut_at:
            raise PowerCut

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch what is done through ``os`` (pathlib goes through it too)."""
        real = {name: getattr(os, name) for name in WATCHED}
        try:
            for name in WATCHED:
                setattr(os, name, self._watch(name, real[name]))
            yield
        finally:
            for name in WATCHED:
                setattr(os, name, real[name])

    def _watch(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if name == "open" and not (args[1] & os.O_CREAT):
                return real(*args, **named)
            where = os.readlink(f"/proc/self/fd/{args[0]}") if name in ("write", "fsync") else ""
            if not str(where or args[-1 if name == "symlink" else 0]).startswith(str(self.root)):
                return real(*args, **named)
            self.step()
            if name == "fsync":
                path = Path(where)
                if path.is_dir():
                    self._remember(path)
                else:
                    self._synced[path.stat().st_ino] = path.read_bytes()
                return None  # the real one would only take time
            result = real(*args, **named)
            if name == "open":
                self._synced.pop(os.fstat(result).st_ino, None)  # numbers are used again
            elif name == "mkdir":
                self._remember(Path(args[0]))
            return result

        return call

    def _remember(self, folder: Path) -> None:
        number = folder.stat().st_ino
        for key in [key for key in self._known if key[0] == number]:
            del self._known[key]
        for name in os.listdir(folder):
            self._known[number, name] = self._entry(folder / name)
        self._entries[number] = os.listdir(folder)

    @staticmethod
    def _entry(path: Path) -> tuple[str, Any]:
        if path.is_symlink():
            return "link", os.readlink(path)
        return ("folder" if path.is_dir() else "file"), path.stat().st_ino

    def cut(self, way: str) -> None:
        """Leave in the folder what a power cut leaves on the disk."""
        tree: Tree = {}
        self._collect(self.root.stat().st_ino, self.root, "", way, tree)
        self.become(tree)

    def become(self, tree: Tree) -> None:
        """Make the folder and the disk be this tree. Only what differs is touched, for speed."""
        here = self.tree()
        for name in sorted(here, reverse=True):
            if name not in tree or tree[name][0] != here[name][0]:
                path = self.root / name
                path.rmdir() if here[name][0] == "folder" else path.unlink()
        for name, (kind, content) in sorted(tree.items()):
            path = self.root / name
            if kind == "folder":
                path.mkdir(exist_ok=True)
            elif here.get(name) != (kind, content):
                path.unlink(missing_ok=True)
                path.symlink_to(content) if kind == "link" else path.write_bytes(content)
        self.settle()

    def tree(self) -> Tree:
        """What is on the disk now, without the kernel's folders."""
        found: Tree = {}
        self._collect(self.root.stat().st_ino, self.root, "", "as it is", found)
        return found

    def _collect(self, number: int, folder: Path, at: str, way: str, tree: Tree) -> None:
        if way == "lost":
            entries = {name: self._known[number, name] for name in self._entries.get(number, [])}
        else:
            entries = {path.name: self._entry(path) for path in folder.iterdir()}
        for name, (kind, value) in entries.items():
            if not at and name in VOLATILE:
                continue
            if kind == "file" and way == "as it is":
                tree[at + name] = kind, (folder / name).read_bytes()
            elif kind == "file":
                tree[at + name] = kind, self._synced.get(value, b"")
            else:
                tree[at + name] = kind, value if kind == "link" else None
            if kind == "folder":
                self._collect(value, folder / name, f"{at}{name}/", way, tree)


class VirtualPi(Host):
    """A double of a Raspberry Pi with Raspberry Pi OS: its kernel's state follows from the files
    at boot, and from commands; both are lost with the power."""

    def __init__(self, root: Path, disk: Disk) -> None:
        super().__init__(root, self._command, Clock(now=lambda: NOW))
        self.disk = disk
        self.boots = 0
        self.boot()

    @property
    def live(self) -> bool:
        """It is the running system."""
        return True

    def boot(self) -> None:
        """Power on: firmware, kernel and systemd read their files."""
        self.boots += 1
        shutil.rmtree(self.root / "run", ignore_errors=True)
        arguments = "cgroup_disable=memory " + self._disk("boot/firmware/cmdline.txt").strip()
        on = "cgroup_enable=memory" in arguments
        swap = "Mechanism=none" not in self._disk("etc/rpi/swap.conf.d/90-nodeagent.conf")
        put(self.root, {
            "/proc/cmdline": arguments + "\n",
            "/proc/sys/kernel/random/boot_id": f"boot-{self.boots}\n",
            "/proc/sys/kernel/hostname": self._disk("etc/hostname"),
            "/proc/sys/kernel/osrelease": "6.12\n",
            "/proc/device-tree/serial-number": "10000000abcdef12\0",
            "/proc/swaps": "Filename\n" + ("/dev/zram0 partition 1 0 100\n" if swap else ""),
            "/proc/modules": "",
            "/sys/fs/cgroup/cgroup.controllers": "cpu memory\n" if on else "cpu\n",
            "/dev/watchdog0": "",
        })  # fmt: skip
        put(self.root, dict.fromkeys(SYSCTLS, "0\n"))
        if self._disk("etc/modules-load.d/nodeagent.conf"):
            self._load()
        if self._disk("etc/sysctl.d/99-nodeagent.conf"):
            self._set()

    def _disk(self, name: str) -> str:
        path = self.root / name
        return path.read_text() if path.exists() else ""

    def _load(self) -> None:
        names = ("overlay", "br_netfilter", "vxlan")
        put(self.root, {"/proc/modules": "".join(f"{n} 1 0 - Live 0x0\n" for n in names)})

    def _set(self) -> None:
        put(self.root, dict.fromkeys(SYSCTLS, "1\n"))

    def _command(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        self.disk.step()
        if argv[0] == "hostnamectl":
            put(self.root, {"/proc/sys/kernel/hostname": argv[2] + "\n"})
        elif argv[0] == "swapoff":
            put(self.root, {"/proc/swaps": "Filename\n"})
        elif argv[0] == "modprobe":
            self._load()
        elif argv[0] == "sysctl":
            self._set()
        elif argv[0] == "rm":  # durable with the next sync only
            for name in argv[argv.index("--") + 1 :]:
                shutil.rmtree(self.root / name.lstrip("/"))
        elif argv[0] == "pidof":
            return Result(1)
        elif argv[0] == "sync":
            self.disk.settle()
        self.disk.step()
        return Result(0, "0\n" if "RuntimeWatchdogUSec" in argv else "")
