"""The machines of one lab run: from nothing to powered on, and back to nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from nodeagent.trust import fleet_file
from tests import provenance

from . import board, disk, flashing, image, lan, toolbox
from .guest import Guest
from .mirror.store import Store
from .place import (
    PIS,
    REPOSITORY,
    Asked,
    LabError,
    cache,
    logs,
    run_folder,
    say,
)
from .watch import Watch


class Cluster:
    """What a run was asked for, and its guests while they live."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.guests: list[Guest] = []
        self.formed = False
        self.brought = False  # the pod network, by its manifest
        self.commit, self.clean = "", False  # the checkout when the package was made
        self.tried = 0  # packets of baked boards for an archive, before they were Ready
        self._offline = False
        self._watch: Watch | None = None
        self._accelerators: dict[str, str] = {}
        self._deb: Path | None = None

    def accelerator(self, arch: str, kernel: Path) -> str:
        """How guests with this kernel run here: ``kvm`` or ``tcg``."""
        if arch not in self._accelerators:
            found = "kvm" if toolbox.kvm_works(arch, kernel) else "tcg"
            say(f"{arch} guests run with {found}")
            self._accelerators[arch] = found
        return self._accelerators[arch]

    @property
    def ready(self) -> bool:
        """Every agent says so. Raises LabError where a board will never start again."""
        return all(guest.ready for guest in self.guests)

    @property
    def pis(self) -> list[Guest]:
        """Those on QEMU's Raspberry Pi 3."""
        return [guest for guest in self.guests if guest.board.machine in PIS]

    @property
    def package(self) -> Path:
        """The agent's .deb. Raises LabError before ``prepare``."""
        if self._deb is None:
            raise LabError("The agent's package was not built yet.")
        return self._deb

    @property
    def manifest(self) -> dict[str, Any]:
        """What the mirror says of itself."""
        return self._manifest(self.asked.arch)

    def _manifest(self, arch: str) -> dict[str, Any]:
        data = json.loads((Store(arch).root / "manifest.json").read_text())
        assert isinstance(data, dict)
        return data

    def prepare(self) -> None:
        """Everything that outlives a run: tools, mirror, the agent's package."""
        toolbox.install_host_tools()
        toolbox.ensure()
        if self.asked.mirror == "built":
            say("mirror: building what is missing")
            for arch in self.asked.archs:
                argv = [sys.executable, "-m", "tests.lab.mirror", "build", "--arch", arch]
                if subprocess.run(argv, cwd=REPOSITORY).returncode:
                    raise LabError("The mirror could not be built; its reason stands above.")
        self._deb = agent_package()
        self.commit, self.clean = provenance.commit(), provenance.clean()
        say(self._deb.name)

    def power_on(
        self,
        agent: bool = True,
        card: Callable[[board.Board], None] | None = None,
        approve: bool = False,
        package: Path | None = None,
    ) -> None:
        """Fresh cards into all boards, identical but for what a user would write on them; ``card``
        may change them before the power comes. With ``approve`` the first board's card leads, and
        the others are for workers that a person approves. ``package``: another .deb of the agent
        than this checkout's."""
        self.end()
        logs().mkdir(parents=True, exist_ok=True)
        asked = self.asked
        starts = {index: asked.start_of(index) for index in range(1, asked.nodes + 1)}
        package = package or self.package
        within = agent and "plain" in starts.values()
        stock = {
            arch: image.build(arch, asked.mirror, package if within else None)
            for arch in asked.archs
        }
        lan.up(asked.nodes, asked.mirror, asked.archs)
        fleet = new_fleet(*(["--approve"] if approve else [])) if agent else None
        baked: dict[str, Path] = {}
        if agent and "baked" in starts.values():
            for arch, one_image in stock.items():
                address = lan.mirror_address(arch, asked.archs)
                baked[arch] = flashing.bake(
                    arch, one_image.disk, package, self.sources(arch), address
                )
        for index in range(1, asked.nodes + 1):
            arch = asked.arch_of(index)
            flashed = stock[arch]
            accelerator = self.accelerator(arch, flashed.kernel)
            kernel, initrd = str(flashed.kernel), str(flashed.initrd)
            machine = asked.machines.get(index, "virt")
            one = board.Board(index, arch, accelerator, kernel, initrd, machine)
            say("flashing the card", one.name)
            from_baked = arch in baked and starts[index] == "baked"
            disk.copy(baked[arch] if from_baked else flashed.disk, one.card)
            if one.machine in PIS:
                disk.round_up(one.card)
            if fleet:
                settings = run_folder() / f"{one.name}.yaml"
                settings.write_text(self.settings(index))
                own = card_file(fleet, index)
                if starts[index] == "plain":
                    disk.put(one.card, "nodeagent.yaml", settings)
                    disk.put(one.card, fleet_file.NAME, own)
                else:
                    deb = package if starts[index] == "seeded" else None
                    flashing.seed(one.card, own, settings, deb)
            if card:
                card(one)
            self.guests.append(Guest(one))
        baked_ones = [g.board.mac for g in self.guests if starts[g.board.index] == "baked"]
        self._offline = agent and bool(baked_ones)
        if self._offline:
            lan.keep_from_archives(baked_ones)
        self._watch = Watch(self.guests)
        self._watch.start()
        for guest in self.guests:
            guest.power_on()

    def back_online(self) -> None:
        """Baked boards may reach the archives now; how often they tried before is kept."""
        if self._offline:
            self.tried = lan.give_archives_back()
            say(f"packets of baked boards for an archive until now: {self.tried}")
        self._offline = False

    def settings(self, index: int) -> str:
        """nodeagent.yaml of a node."""
        asked = self.asked
        first = f"role: {asked.roles.get(index, 'auto')}\nexpected_nodes: {asked.nodes}\n"
        return first + self.sources(asked.arch_of(index))

    def sources(self, arch: str) -> str:
        """The mirror in nodeagent.yaml, as an air-gapped user would configure it."""
        lines: list[str] = []
        if self.asked.mirror == "built":
            manifest = self._manifest(arch)
            lines += [
                "kubernetes:",
                *([f'  version: "{self.asked.kubernetes}"'] if self.asked.kubernetes else []),
                "  repository: http://mirror.lab/kubernetes",
                f"  key_fingerprint: {manifest['kubernetes_fingerprint']}",
                "  image_repository: mirror.lab:5000",
                "containerd:",
                "  source: docker",
                "  repository: http://mirror.lab/docker/linux/debian",
                f"  key_fingerprint: {manifest['docker_fingerprint']}",
                "network:",
                "  image_repository: mirror.lab:5000",
                *([f"  cni: {self.asked.cni}"] if self.asked.cni != "flannel" else []),
            ]
        return "".join(f"{line}\n" for line in lines)

    def release(self) -> None:
        """Stop watching; the machines live on."""
        if self._watch:
            self._watch.stop()
        self._watch = None

    def end(self) -> None:
        """Machines, LAN and their files are gone afterwards; logs of the last run stay."""
        self.release()
        self.guests, self.formed = [], False
        down(keep_logs=True)


def down(keep_logs: bool = False) -> None:
    """End everything of any earlier run. The caches stay."""
    lan.down()
    if not run_folder().exists():
        return
    last = cache() / "last-logs"
    # A run that ends by itself just now may be clearing away the same files.
    with contextlib.suppress(FileNotFoundError):
        if keep_logs and logs().exists():
            shutil.rmtree(last, ignore_errors=True)
            logs().rename(last)
    if not keep_logs:
        shutil.rmtree(last, ignore_errors=True)
    shutil.rmtree(run_folder(), ignore_errors=True)


def agent_package() -> Path:
    """The agent's .deb, fresh: make decides whether it must be built."""
    say("the agent's package")
    done = subprocess.run(["make", "-s", "deb"], cwd=REPOSITORY, capture_output=True, text=True)
    debs = sorted((REPOSITORY / "dist").glob("nodeagent_*.deb"), key=lambda p: p.stat().st_mtime)
    if done.returncode or not debs:
        raise LabError(f"make deb failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return debs[-1]


def new_fleet(*options: str) -> Path:
    """A new fleet, made with the product's own command; the folder of its files."""
    folder = run_folder() / "fleet"
    folder.mkdir()
    flashing.product("fleet", "new", "lab", "--out", str(folder), *options)
    return folder


def card_file(fleet: Path, index: int) -> Path:
    """The fleet's file for the card of board ``index``: of split ones, the first leads."""
    if (fleet / fleet_file.NAME).exists():
        return fleet / fleet_file.NAME
    return fleet / ("control-plane" if index == 1 else "worker") / fleet_file.NAME


def alone() -> IO[str]:
    """Only one run at a time in one cache. Hold what is given. Raises LabError."""
    cache().mkdir(parents=True, exist_ok=True)
    lock = (cache() / "run.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LabError("Another run of the lab is under way on this machine.") from None
    return lock
