"""The real agent process, killed before and after each external command, and started again.

It runs as root of a machine of its own: mount, network and process namespaces, the machine's
/usr below an overlay, own /etc, /var, /boot and /run. The commands are doubles first on its PATH
(`command_process.py`), the API server and the repository's key are answered by two small servers.
A node that leads is followed from a new card to Ready; joining is in `firstboot.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nodeagent import paths
from nodeagent.fleet import handoff
from nodeagent.host.host import Host
from nodeagent.trust import fleet_file, pki, voucher
from nodeagent.trust.node_key import NodeKey
from nodeagent.trust.store import VOUCHER_FILE, from_card
from tests.reliability.explore import settled
from tests.reliability.servers import api_server, key_server
from tests.support import namespaces
from tests.support.firstboot import CARD, FINGERPRINT, FRESH, KEY_FILE, Fleet
from tests.support.lossy_disk import Tree
from tests.support.machine import fast_folder, put
from tests.support.programs import ADDRESS, Commands

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = (
    "apt-get", "crictl", "dpkg", "hostnamectl", "ip", "kubeadm", "kubectl", "modprobe", "nft",
    "pidof", "piboot-try", "rm", "runuser", "swapoff", "sync", "sysctl", "systemctl",
)  # fmt: skip
PROGRAM = """#!/usr/bin/python3 -SE
import sys
sys.path[0] = "/harness"
import command_process
command_process.main()
"""
PERSISTENT = ("boot", "etc", "home", "var")
UNITS = ("containerd.service", "kubelet.service")
SETTINGS = f"""\
expected_nodes: 1
timing: {{listen: 1, hold_down: 1, solo_wait: 1}}
kubernetes: {{key_fingerprint: {FINGERPRINT}, repository: "http://{ADDRESS}"}}
containerd: {{key_fingerprint: {FINGERPRINT}, repository: "http://{ADDRESS}"}}
"""
PATIENCE = 900.0  # seconds for one life, of which it needs two on a machine that is not busy
MAX_STARTS = 6


@dataclass
class Killed:
    """The figures."""

    commands: int = 0  # of the run without a kill
    points: int = 0  # before and after each of them
    reached: int = 0
    starts: int = 0  # of the agent, in all trials
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Machine:
    """A machine made of folders, in the namespaces of this process."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self.root, self.harness, self.new = (folder / n for n in ("root", "harness", "new"))
        self.fleet = fleet
        put(self.new, FRESH | {
            f"/{CARD}": fleet.card, "/boot/firmware/nodeagent.yaml": SETTINGS,
            "/etc/ld.so.cache": Path("/etc/ld.so.cache").read_bytes(),
            "/etc/passwd": str(FRESH["/etc/passwd"]) + "".join(
                f"{name}:x:{number}:{number}::/:/bin/false\n"
                for number, name in enumerate(("nodeagent", "nodeagent-broker"), 990)
            ),
        })  # fmt: skip
        self._mount(folder)

    def _mount(self, folder: Path) -> None:
        for name in (*PERSISTENT, "usr", "proc", "sys", "run", "dev", "tmp", "harness"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        for name in ("upper", "work"):
            (folder / name).mkdir()
        layers = f"lowerdir=/usr,upperdir={folder}/upper,workdir={folder}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root / "usr"))
        for name in ("null", "urandom"):
            (self.root / "dev" / name).touch()
            _run("mount", "--bind", f"/dev/{name}", str(self.root / "dev" / name))
        place = self.root / CHECKOUT.relative_to("/")
        place.mkdir(parents=True)
        _run("mount", "--bind", "-o", "ro", str(CHECKOUT), str(place))
        self.harness.mkdir()
        for module in ("support/programs.py", "reliability/command_process.py"):
            shutil.copy(CHECKOUT / "tests" / module, self.harness)
        shutil.copytree(self.fleet.folder, self.harness / "store")
        _run("mount", "--bind", str(self.harness), str(self.root / "harness"))
        for path, content in FRESH.items():
            if path.startswith(("/usr/", "/lib/")):
                put(self.root / "usr", {path.removeprefix("/usr"): content})
        for name in NAMES:
            program = self.root / "usr/local/sbin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(PROGRAM)
            program.chmod(0o755)
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo")

    def renew(self) -> None:
        """A new card in it, and nothing noted."""
        for name in PERSISTENT:
            _empty(self.root / name)
            shutil.copytree(self.new / name, self.root / name, symlinks=True, dirs_exist_ok=True)
        for name in UNITS:
            (self.root / "usr/lib/systemd/system" / name).unlink(missing_ok=True)
        for name in ("calls", "events", "plan", "rebooting"):
            (self.harness / name).unlink(missing_ok=True)
        (self.harness / "events").touch()
        self._boots = 0

    def boot(self) -> None:
        """Power on."""
        for name in ("proc", "sys", "run"):
            _empty(self.root / name)
        (self.harness / "rebooting").unlink(missing_ok=True)
        self._boots += 1
        Commands(self.root, self.fleet.folder, lambda seconds: None).boot(self._boots)

    def live(self, plan: str = "") -> str:
        """From a new card to Ready, with the agent started again whenever it ends. What went
        wrong, or empty."""
        self.renew()
        if plan:
            (self.harness / "plan").write_text(plan)
        self.boot()
        end = time.monotonic() + PATIENCE
        for self.starts in range(1, MAX_STARTS + 1):
            with (self.harness / "log").open("ab") as log:
                agent = subprocess.Popen(
                    ["chroot", str(self.root), sys.executable, "-m",
                     "tests.reliability.agent_process"],
                    cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(CHECKOUT)},
                )  # fmt: skip
            try:
                ready = self._watch(agent, end)
            finally:
                agent.kill()
                agent.wait()
            if ready:
                return ""
            if time.monotonic() > end:
                return f"not Ready within {PATIENCE:.0f} s: {self._last_words()}"
            if (self.harness / "rebooting").exists():
                self.boot()
        return f"the agent was started {MAX_STARTS} times: {self._last_words()}"

    def _watch(self, agent: subprocess.Popen[bytes], end: float) -> bool:
        """True as soon as the node is Ready; False when the agent has ended or is to end."""
        handover = self.root / paths.HANDOVER.lstrip("/")
        while agent.poll() is None and time.monotonic() < end:
            if handover.exists():
                return True
            if (self.harness / "rebooting").exists():
                return False
            time.sleep(0.02)
        return False

    def _last_words(self) -> str:
        return " / ".join((self.harness / "log").read_text(errors="replace").splitlines()[-4:])

    def hear(self) -> None:
        """A double of the network process: what was announced comes back, for ever."""
        mark, host = 0, Host(self.root)
        while True:
            time.sleep(0.03)
            mark += 1
            try:
                if handoff.read_announcement(host) is not None:
                    handoff.write_heard(host, mark, [])
            except (OSError, ValueError):
                continue  # the machine is being renewed

    def calls(self) -> list[str]:
        """The commands that were run, in order."""
        return (self.harness / "calls").read_text().splitlines()

    def events(self) -> list[str]:
        """What the doubles noted."""
        return (self.harness / "events").read_text().splitlines()

    def tree(self) -> Tree:
        """What outlives the power, with modes."""
        tree: Tree = {}
        for top in PERSISTENT:
            for folder, folders, files in os.walk(self.root / top):
                for name in folders + files:
                    path = Path(folder, name)
                    below, status = str(path.relative_to(self.root)), path.lstat()
                    if stat.S_ISLNK(status.st_mode):
                        tree[below] = "link", os.readlink(path)
                    elif stat.S_ISDIR(status.st_mode):
                        tree[below] = f"folder {status.st_mode & 0o777:o}", None
                    else:
                        tree[below] = f"file {status.st_mode & 0o777:o}", path.read_bytes()
        return tree


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def comparable(tree: Tree, issuer: bytes) -> Tree:
    """``settled``, of whichever key the node made for itself on this card: its files name it by
    that key, and its voucher must be for it. ``issuer``: the control-plane issuer's point."""
    left = settled(tree)
    key_file, voucher_file = (path.lstrip("/") for path in (paths.NODE_KEY, VOUCHER_FILE))
    kind, pem = left[key_file]
    node = NodeKey(pki.read_key(pem))
    kept = left.get(voucher_file, ("", b""))[1] or b""
    vouched = voucher.is_vouched(issuer, voucher.to_point(node.public), kept)
    left |= {key_file: (kind, None), voucher_file: ("voucher", vouched)}

    def unnamed(data: Any) -> Any:
        if isinstance(data, bytes):
            return data.replace(node.node_id.encode(), b"its node id")
        return data.replace(node.node_id, "its node id") if isinstance(data, str) else data

    return {name: (kind, unnamed(data)) for name, (kind, data) in left.items()}


def points(calls: list[str]) -> Iterator[str]:
    """A plan for before and after each call."""
    for number, line in enumerate(calls):
        time_of_it = calls[: number + 1].count(line)
        for when in ("before", "after"):
            yield f"{when}\t{time_of_it}\t{line}"


def inside(share: int, of: int) -> Killed:
    """This process's share of the points; it must be in namespaces of its own."""
    result, begun = Killed(), time.monotonic()
    with fast_folder() as folder:
        machine = Machine(folder, Fleet(folder / "store"))
        threading.Thread(target=machine.hear, daemon=True).start()
        with api_server(machine.root, machine.fleet), key_server(KEY_FILE.read_bytes()):
            problem = machine.live()
            if problem:
                raise RuntimeError(f"the run without a kill: {problem}")
            issuer = from_card(fleet_file.parse(machine.fleet.card)).issuer_point
            wanted, calls = comparable(machine.tree(), issuer), machine.calls()
            plans = list(points(calls))
            result.commands, result.points = len(calls), len(plans)
            for plan in plans[share::of]:
                problem = machine.live(plan)
                result.starts += machine.starts
                result.reached += not (machine.harness / "plan").exists()
                found = [problem] if problem else list(_faults(wanted, machine, issuer))
                result.problems += [f"{plan!r}: {text}" for text in found]
    result.seconds = time.monotonic() - begun
    return result


def _faults(wanted: Tree, machine: Machine, issuer: bytes) -> Iterator[str]:
    found = comparable(machine.tree(), issuer)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            yield f"{name} differs from that of the run without a kill"
    done = [event for event in machine.events() if event.startswith("kubeadm")]
    for event in done:
        if event.endswith(("refused", "of a formed node")):
            yield event
    for first, second in itertools.pairwise(done):
        if first == second == "kubeadm init done":
            yield "a second kubeadm init without a reset"


def kill_everywhere(workers: int) -> Killed:
    """All points, by so many machines at the same time. Raises RuntimeError."""
    total = Killed()
    with ThreadPoolExecutor(workers) as pool:
        for one in pool.map(lambda share: _apart(share, workers), range(workers)):
            total.commands, total.points = one.commands, one.points
            total.reached += one.reached
            total.starts += one.starts
            total.seconds = max(total.seconds, one.seconds)
            total.problems += one.problems
    return total


def _apart(share: int, of: int) -> Killed:
    """``inside``, in namespaces of its own."""
    done = subprocess.run(
        namespaces.apart(sys.executable, "-m", __spec__.name, str(share), str(of),
                         kinds=("mnt", "net", "pid")),
        cwd=CHECKOUT, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"a machine ended with status {done.returncode}: {said}")
    return Killed(**json.loads(done.stdout))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.stdout.write(json.dumps(asdict(inside(int(sys.argv[1]), int(sys.argv[2])))))
