"""Where the lab lives on this machine, and what this run of it was asked for.

Everything made lies in one cache outside the checkout: ``tools/`` (the toolbox), ``image/``,
``mirror/`` (tests/lab/mirror) and ``run/`` (disks, logs and pids of the machines of now, gone
after ``down``). What varies comes from the environment, so that make variables reach it.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from nodeagent.cluster import cni

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = REPOSITORY / "image" / "lab"
NAMESPACE = "nodeagent-lab"
ADDRESS, PIS_ADDRESS = "10.77.0.1", "10.77.0.2"
STARTED = time.monotonic()


class LabError(Exception):
    """Something that stops the lab: what happened, why, what to do, in plain words."""


def cache() -> Path:
    """The lab's cache folder."""
    default = Path.home() / ".cache" / "nodeagent-lab"
    return Path(os.environ.get("NODEAGENT_LAB_CACHE") or default).absolute()


def run_folder() -> Path:
    """What belongs to the machines that run now."""
    return cache() / "run"


def logs() -> Path:
    """Serial consoles, services and what was collected from nodes."""
    return run_folder() / "logs"


def say(text: str, node: str = "") -> None:
    """One line of progress: seconds since the start, who, what."""
    # One write a line: print() writes the line's end apart, and threads would mix theirs.
    sys.stdout.write(f"{time.monotonic() - STARTED:7.1f}  {node or 'lab':<6} {text}\n")
    sys.stdout.flush()


# QEMU's Raspberry Pi 3, by the device tree it gets. That of a Zero 2 W, which has the same chip,
# is there for its LED: the Pi 3's hangs on a part that QEMU lacks.
PIS = {"raspi3b": "bcm2837-rpi-3-b.dtb", "zero2w": "bcm2837-rpi-zero-2-w.dtb"}


@dataclass(frozen=True)
class Asked:
    """What the environment asks for, each by the variable of its name (ROLE_1, LAB_MINUTES).

    START says what is on the cards: ``plain``, the agent and beside it the two files that a user
    copies; ``seeded``, a stock system that `image seed` prepared; ``baked``, what `image bake`
    made, on boards that reach no archive; ``mixed``, the first baked and the others seeded.
    MACHINE_1 ... say which board: ``virt``, or a real one that QEMU knows, which is arm64 whatever
    ARCH says.
    """

    nodes: int = 2
    arch: str = "amd64"
    cni: str = "flannel"
    kubernetes: str = ""  # the release for all nodes; none: the default
    mirror: str = "built"
    start: str = "plain"
    roles: dict[int, str] = field(default_factory=dict)
    machines: dict[int, str] = field(default_factory=dict)
    keep: bool = False
    minutes: float = 40.0
    seed: int = 0

    def arch_of(self, index: int) -> str:
        """``amd64`` or ``arm64``."""
        return "arm64" if self.machines.get(index) in PIS else self.arch

    @property
    def archs(self) -> list[str]:
        """Of all boards, each once; that of the first ones first."""
        return list(dict.fromkeys([self.arch, *map(self.arch_of, range(1, self.nodes + 1))]))

    @property
    def settling(self) -> float:
        """Seconds that a formed cluster may take to answer: a slow machine is slow there too."""
        return self.minutes * 60 / 4

    def start_of(self, index: int) -> str:
        """``plain``, ``seeded`` or ``baked``."""
        if self.start == "mixed":
            return "baked" if index == 1 else "seeded"
        return self.start

    @staticmethod
    def from_environment() -> Asked:
        """Raises LabError where a value makes no sense."""
        environment = os.environ

        def number(name: str, default: str, least: float, most: float) -> float:
            text = environment.get(name) or default
            try:
                value = float(text)
            except ValueError:
                value = least - 1
            if not least <= value <= most:
                raise LabError(f"{name}={text} is no number from {least:g} to {most:g}.")
            return value

        def one_of(name: str, *allowed: str) -> str:
            text = environment.get(name) or allowed[0]
            if text not in allowed:
                raise LabError(f"{name}={text} is none of {', '.join(allowed)}.")
            return text

        nodes = int(number("NODES", "2", 1, 9))
        roles = {
            index: one_of(f"ROLE_{index}", "auto", "control-plane", "worker")
            for index in range(1, nodes + 1)
        }
        arch = one_of("ARCH", "amd64", "arm64")
        return Asked(
            nodes=nodes,
            arch=arch,
            cni=one_of("CNI", *cni.NETWORKS),
            kubernetes=(environment.get("KUBERNETES") or "").partition(" ")[0],
            mirror=one_of("MIRROR", "built", "upstream"),
            start=one_of("START", "plain", "seeded", "baked", "mixed"),
            roles=roles,
            machines={i: one_of(f"MACHINE_{i}", "virt", *PIS) for i in range(1, nodes + 1)},
            keep=(environment.get("KEEP") or "0") not in ("0", "no", "false"),
            minutes=number("LAB_MINUTES", "40", 1, 600),
            seed=int(number("SEED", str(int(time.time()) % 10**6), 0, 10**9)),
        )


def need_root() -> None:
    """Raises LabError where the lab cannot work at all."""
    if sys.platform != "linux":
        raise LabError("The lab runs on Linux only: Debian 12 or newer, Ubuntu 24.04 or newer.")
    if os.geteuid():
        raise LabError("The lab makes network namespaces and root file systems: run it as root.")
