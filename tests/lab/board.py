"""One virtual board: ``python3 -m tests.lab.board CARD.json`` is its power supply.

At every power-on the firmware double reads the card, then QEMU starts. A guest's reboot ends QEMU
and the board is powered on again; after a guest's poweroff it stays off; when QEMU is killed (a
power cut) power comes back after a few seconds. Each of these is one line in the board's events.
The supply is a process of its own, so that boards live on when the runner has ended.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import disk, firmware, toolbox
from .place import PIS, LabError, logs, run_folder

OUTAGE = 5.0  # seconds a power cut lasts
# qemu64 is amd64's baseline, which Debian and GOAMD64=v1 need; more features cost time. With these
# TLS is seven times as fast (AES-128-GCM, openssl speed: 184 against 27 MB/s), as QEMU hands
# them to the real processor.
CRYPTO = ",+aes,+pclmulqdq,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand"
ACCELERATORS = {
    "kvm": toolbox.KVM,
    "tcg-amd64": ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", f"qemu64{CRYPTO}"],
    "tcg-arm64": ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "cortex-a72"],
}


@dataclass(frozen=True)
class Board:
    """A board and the card in it. ``index`` counts from 1."""

    index: int
    arch: str
    accelerator: str
    kernel: str
    initrd: str
    machine: str = "virt"  # or one of PIS
    memory: int = 3072
    processors: int = 2

    @property
    def name(self) -> str:
        return f"node{self.index}"

    @property
    def mac(self) -> str:
        # The prefix of the Pi 4; QEMU's usb-net puts 40 in the place of any first byte.
        return f"{'40' if self.machine in PIS else 'dc'}:a6:32:77:00:{self.index:02x}"

    @property
    def tap(self) -> str:
        return f"tap{self.index}"

    @property
    def card(self) -> Path:
        return run_folder() / "disks" / f"{self.name}.img"

    @property
    def console(self) -> Path:
        return logs() / f"{self.name}.console"

    @property
    def events(self) -> Path:
        return run_folder() / f"{self.name}.events"

    @property
    def monitor(self) -> Path:
        return run_folder() / f"{self.name}.qmp"

    @property
    def dark(self) -> Path:
        """While this file is there no power comes back after a cut."""
        return run_folder() / f"{self.name}.dark"

    @property
    def in_1970(self) -> Path:
        """While this file is there the board's clock starts in 1970."""
        return run_folder() / f"{self.name}.1970"

    @property
    def description(self) -> Path:
        return run_folder() / f"{self.name}.json"

    def command(self, arguments: str) -> list[str]:
        """QEMU's command line for a power-on with these kernel arguments."""
        return [
            toolbox.EMULATORS[self.arch][0], "-name", self.name, "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-qmp", f"unix:{self.monitor},server=on,wait=off",
            "-kernel", self.kernel, "-initrd", self.initrd,
            "-chardev", f"file,id=console,path={self.console},append=on",
            "-netdev", f"tap,id=lan,ifname={self.tap},script=no,downscript=no",
            *(self._pi(arguments) if self.machine in PIS else self._virtual(arguments)),
        ]  # fmt: skip

    def _pi(self, arguments: str) -> list[str]:
        """What a Pi 3 has is fixed: four CPUs, 1 GiB of which the graphics take a part, the card
        in its SD controller. The kernel's console is the second of its serial ports."""
        return [
            "-M", "raspi3b", "-accel", "tcg,thread=multi,tb-size=512",
            "-dtb", str(Path(self.kernel).with_name(PIS[self.machine])),
            "-append", firmware.for_pi(arguments), "-serial", "null", "-serial", "chardev:console",
            "-drive", f"if=sd,file={self.card},format=raw,cache=unsafe",
            "-device", f"usb-net,netdev=lan,mac={self.mac}",
        ]  # fmt: skip

    def _virtual(self, arguments: str) -> list[str]:
        kvm = self.accelerator == "kvm"
        return [
            "-M", toolbox.EMULATORS[self.arch][1],
            *ACCELERATORS["kvm" if kvm else f"tcg-{self.arch}"],
            "-smp", str(self.processors), "-m", str(self.memory), "-append", arguments,
            "-serial", "chardev:console",
            "-drive", f"if=none,id=card,file={self.card},format=raw,cache=unsafe,discard=unmap",
            "-device", "virtio-blk-pci,drive=card",
            "-device", f"virtio-net-pci,netdev=lan,mac={self.mac},romfile=",
            "-device", "virtio-rng-pci",
            # A Pi has a hardware watchdog that resets it; this is a PC's.
            "-device", "i6300esb", "-action", "watchdog=reset",
            *(("-rtc", "base=1970-01-01T00:00:00") if self.in_1970.exists() else ()),
        ]  # fmt: skip

    def note(self, event: str, **details: object) -> None:
        line = {"event": event, "at": time.time(), **details}
        with self.events.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _why_it_ended(monitor: Path, process: subprocess.Popen[bytes]) -> str:
    """Follow QEMU to its end: ``reboot``, ``off``, or ``cut`` when it said no last word."""
    reason = "cut"
    for _ in range(100):
        if monitor.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(monitor))
            line.sendall(b'{"execute": "qmp_capabilities"}\n')
            for text in line.makefile():
                message = json.loads(text)
                if message.get("event") == "SHUTDOWN":
                    why = message["data"]["reason"]
                    reason = "off" if why == "guest-shutdown" else "reboot"
        except (OSError, ValueError):
            pass
    process.wait()
    return reason


def supply(board: Board) -> None:
    """Power the board until it turns itself off. Runs in the lab's network namespace."""
    while True:
        arguments = firmware.command_line(lambda name: disk.read(board.card, name))
        board.note("power-on", arguments=arguments)
        board.monitor.unlink(missing_ok=True)
        begin = time.monotonic()
        with (logs() / f"{board.name}.qemu").open("ab") as out:
            argv = toolbox.command(*board.command(arguments))
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        board.note("running", pid=process.pid)
        reason = _why_it_ended(board.monitor, process)
        if process.returncode not in (0, -signal.SIGKILL):
            board.note("broken", code=process.returncode)
            return
        board.note(reason, seconds=round(time.monotonic() - begin, 1))
        if reason == "off":
            return
        if reason == "cut":
            cuts = sum(1 for _ in logs().glob(f"{board.name}.boot-*.img"))
            disk.copy_boot(board.card, logs() / f"{board.name}.boot-{cuts + 1:02}.img")
        time.sleep(OUTAGE if reason == "cut" else 0.5)
        while board.dark.exists():
            time.sleep(0.2)


def load(path: Path) -> Board:
    return Board(**json.loads(path.read_text()))


def save(board: Board) -> None:
    board.description.write_text(json.dumps(asdict(board)))


if __name__ == "__main__":
    powered = load(Path(sys.argv[1]))
    try:
        supply(powered)
    except LabError as error:
        powered.note("broken", why=str(error))
        sys.exit(str(error))
