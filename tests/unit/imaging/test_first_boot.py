"""The first-boot hook: systemd's real generator, a real shell, doubles of the rest."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from nodeagent.host.apt import actions
from nodeagent.host.boot import cmdline
from nodeagent.imaging import first_boot
from nodeagent.steps.cgroup import WANTED
from tests.unit.imaging import layouts, pi_os
from tests.unit.imaging.pi_os import fixed_firstrun, imager_fixup

GENERATOR = "/usr/lib/systemd/system-generators/systemd-run-generator"
WANTS = "etc/systemd/system/multi-user.target.wants/nodeagent-install.service"
OTHER = "/lib/systemd/system-generators/systemd-run-generator"
PLAIN = layouts.BOOKWORM["cmdline.txt"]
LEFT = b" " + b" ".join(word.encode() for word in WANTED)


def seeded(line: bytes) -> bytes:
    """The line after a seeding: our hook, and the words of the cgroup."""
    return cmdline.add(first_boot.with_hook(line), WANTED, ())


LINES = {
    "alone": (seeded(PLAIN), ["/boot/firmware/nodeagent/first-boot.sh"]),
    "imager before": (
        seeded(PLAIN.rstrip() + layouts.IMAGER_RUN),
        ["/boot/firmware/nodeagent/first-boot.sh", "/boot/firstrun.sh"],
    ),
    "imager after": (
        seeded(PLAIN).rstrip() + layouts.IMAGER_RUN + b"\n",
        ["/boot/firmware/nodeagent/first-boot.sh", "/boot/firstrun.sh"],
    ),
}
for order in ("imager before", "imager after"):
    LINES[f"{order}, fixed up"] = (
        imager_fixup(LINES[order][0]),
        ["/boot/firmware/nodeagent/first-boot.sh", "/boot/firmware/firstrun.sh"],
    )


def generated(line: bytes, tmp_path: Path) -> str:
    """The unit that systemd makes of a command line; empty where it boots as usual."""
    generator = next(path for path in (GENERATOR, OTHER) if Path(path).exists())
    folders = [tmp_path / part for part in ("normal", "early", "late")]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    subprocess.run(
        [generator, *folders], check=True, env={"SYSTEMD_PROC_CMDLINE": line.decode().strip()}
    )
    unit = folders[0] / "kernel-command-line.service"
    return unit.read_text() if unit.exists() else ""


def commands(unit: str) -> list[str]:
    return re.findall("^ExecStart=(.*)$", unit, re.M)


@pytest.mark.processes
@pytest.mark.parametrize("name", LINES)
def test_systemd_runs_every_hook_in_order_and_then_reboots(name: str, tmp_path: Path) -> None:
    line, wanted = LINES[name]
    unit = generated(line, tmp_path)
    assert commands(unit) == wanted
    assert "SuccessAction=reboot" in unit
    # By default systemd powers a board off that cannot run it, at each boot.
    assert "FailureAction=reboot" in unit


def test_the_hook_is_put_in_once() -> None:
    for line, _ in LINES.values():
        assert first_boot.with_hook(line) == line


Shell = Callable[[bytes], subprocess.CompletedProcess[bytes]]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A double of a board: the places that the scripts know, below one folder, and doubles of
    systemctl, apt-get and dpkg that write down how they are called."""
    for folder in ("boot/firmware/nodeagent", "etc/systemd/system", "var/lib", "proc", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    for tool, does in {
        "systemctl": "",
        "sync": "",  # the real one waits for all of this machine
        "cloud-init": "",
        "mount": "",
        "dpkg": '[ "$1" != --compare-versions ] || exec /usr/bin/dpkg "$@"\n'
        f'[ ! -e "{tmp_path}/dpkg-fails" ] || exit 1',
        "dpkg-deb": 'basename "$2" .deb | cut -d_ -f"$([ "$3" = Package ] && echo 1 || echo 2)"',
        "dpkg-query": f'cat "{tmp_path}/state/${{4}}.${{3#*:}}" 2>/dev/null',
        "apt-get": f'cat "{tmp_path}/apt-fails" >&2 2>/dev/null && exit 100; true',
        "sleep": f'[ "$1" = infinity ] || [ -e "{tmp_path}/never-ends" ]',
    }.items():
        path = tmp_path / "bin" / tool
        path.write_text(f'#!/bin/sh\necho "{tool} $*" >>"{tmp_path}/calls"\n{does}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "calls").write_text("")
    (tmp_path / "state").mkdir()
    return tmp_path


def run(board: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the machine's places below ``board``."""
    text = resources.files("nodeagent.imaging").joinpath(script).read_text()
    text = text.replace("/dev/console", "/dev/null")
    places = "boot/firmware|etc/systemd|var/lib|proc/cmdline|run/nodeagent-lists"
    text = re.sub(rf"/({places})", rf"{board}/\1", text)
    path = board / script
    path.write_text(text)
    environment["PATH"] = f"{board}/bin:{os.environ['PATH']}"
    return subprocess.run(["sh", path], env=environment, capture_output=True, text=True)


def calls(board: Path, tool: str) -> list[str]:
    found = (board / "calls").read_text().splitlines()
    return [call for call in found if call.split()[0] == tool]


# rpi-imager's own last lines in firstrun.sh.
def imagers_script(line: bytes) -> bytes:
    return re.sub(rb" systemd\.run.*", b"", line)


@pytest.mark.processes
@pytest.mark.parametrize("name", LINES)
def test_the_hook_takes_its_words_out_in_place(name: str, board: Path) -> None:
    line, _ = LINES[name]
    path = board / "boot/firmware/cmdline.txt"
    path.write_bytes(line)
    inode = path.stat().st_ino
    (board / "proc/cmdline").write_bytes(b"from=firmware " + line)
    done = run(board, "first-boot.sh")
    assert (done.returncode, done.stderr) == (0, "")
    found = path.read_bytes()
    assert (len(found), path.stat().st_ino) == (len(line), inode)
    if name != "alone":
        assert b"/firstrun.sh" in found and b"first-boot.sh" not in found
        found = (fixed_firstrun if "fixed" in name else imagers_script)(found)
    assert found.rstrip() == PLAIN.rstrip() + LEFT
    # The boot that is under way ends with a reboot: there the service starts.
    assert (board / WANTS).exists() and not calls(board, "systemctl")


def boots(board: Path) -> list[str]:
    """How each boot of Raspberry Pi OS without cloud-init ends, until one is a usual one or nothing
    comes after it. What happens before systemd is a model (pi_os.py), and so is Imager's script;
    systemd's generator and our script are real."""
    path, ended = board / "boot/firmware/cmdline.txt", list[str]()
    while len(ended) < 9:
        running = path.read_bytes()
        early = pi_os.before_systemd(path.parent)
        if early:
            ended.append(early)
            continue
        unit = generated(running, board)
        if not unit:
            return [*ended, "usual"]
        for command in commands(unit):
            if command == "/boot/firmware/nodeagent/first-boot.sh":
                (board / "proc/cmdline").write_bytes(b"from=firmware " + running)
                assert run(board, "first-boot.sh").returncode == 0
            elif command == "/boot/firmware/firstrun.sh":
                path.write_bytes(fixed_firstrun(path.read_bytes()))
            else:
                return [*ended, f"{command} is not there"]
        ended += re.findall("^SuccessAction=(.*)$", unit, re.M)
    return ended


FIRST_TRIXIE = layouts.TRIXIE["cmdline.txt"]
JOURNEYS = {
    "bookworm": (seeded(PLAIN), ["resized", "reboot", "usual"]),
    "bookworm, Imager, seeded": (
        seeded(PLAIN.rstrip() + layouts.IMAGER_RUN), ["resized", "reboot", "usual"]
    ),
    "bookworm, seeded, Imager": (
        seeded(PLAIN).rstrip() + layouts.IMAGER_RUN, ["resized", "reboot", "usual"]
    ),
    "trixie": (seeded(FIRST_TRIXIE), ["reboot", "usual"]),
    "trixie, Imager, seeded": (
        seeded(FIRST_TRIXIE.rstrip() + layouts.IMAGER_RUN), ["fixed up", "reboot", "usual"]
    ),
    "trixie, seeded, Imager": (
        seeded(FIRST_TRIXIE).rstrip() + layouts.IMAGER_RUN, ["fixed up", "reboot", "usual"]
    ),
}  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize("name", JOURNEYS)
def test_the_first_boots_end_in_a_usual_one_with_our_service(name: str, board: Path) -> None:
    line, wanted = JOURNEYS[name]
    path = board / "boot/firmware/cmdline.txt"
    path.write_bytes(line)
    assert boots(board) == wanted
    assert (board / WANTS).exists()
    plain = FIRST_TRIXIE if name.startswith("trixie") else PLAIN
    assert path.read_bytes().rstrip() == pi_os.first_boot(plain).rstrip() + LEFT


@pytest.mark.processes
def test_a_line_that_cannot_be_changed_does_not_reboot_for_ever(board: Path) -> None:
    (board / "proc/cmdline").write_bytes(LINES["alone"][0])
    (board / "boot/firmware/cmdline.txt").write_bytes(LINES["alone"][0])
    # A read-only partition, before and after the try to make it writable; root may write anyway.
    (board / "bin/dd").write_text("#!/bin/sh\ncat >/dev/null\nexit 1\n")
    (board / "bin/dd").chmod(0o755)
    done = run(board, "first-boot.sh")
    assert done.returncode == 0
    assert calls(board, "mount") == [f"mount -o remount,rw {board}/boot/firmware"]
    # The reboot that ends this boot never comes; the usual system starts beside it.
    assert calls(board, "systemctl")[-1] == "systemctl start --no-block multi-user.target"
    assert calls(board, "sleep") == ["sleep infinity"]
    assert "Take out systemd.run=" in (board / "boot/firmware/nodeagent-status.txt").read_text()


@pytest.mark.processes
@pytest.mark.parametrize("others", [layouts.IMAGER_RUN, b" systemd.run=/boot/firmware/mine.sh\n"])
def test_a_script_of_others_that_never_ends_does_not_keep_ours(others: bytes, board: Path) -> None:
    line = board / "boot/firmware/cmdline.txt"
    line.write_bytes(seeded(PLAIN.rstrip() + others))
    (board / "proc/cmdline").write_bytes(line.read_bytes())
    status = board / "boot/firmware/nodeagent-status.txt"
    assert run(board, "first-boot.sh").returncode == 0
    assert calls(board, "sleep") == ["sleep 900"] and not calls(board, "systemctl")
    assert not status.exists(), "it has ended, and so has this boot"
    line.write_bytes(seeded(PLAIN.rstrip() + others))
    (board / "never-ends").touch()
    assert run(board, "first-boot.sh").returncode == 0
    assert calls(board, "systemctl")[-1] == "systemctl start --no-block multi-user.target"
    assert "has not ended for 15 minutes" in status.read_text()


@pytest.mark.processes
def test_a_service_that_cannot_be_written_is_told(board: Path) -> None:
    (board / "proc/cmdline").write_text("console=tty1\n")
    (board / "etc/systemd/system").rmdir()
    assert run(board, "first-boot.sh").returncode == 0
    assert "cannot be written" in (board / "boot/firmware/nodeagent-status.txt").read_text()


@pytest.mark.processes
def test_beside_cloud_init_the_hook_does_not_wait(board: Path) -> None:
    (board / "proc/cmdline").write_bytes(LINES["alone"][0])
    (board / "boot/firmware/cmdline.txt").write_bytes(LINES["alone"][0])
    assert run(board, "first-boot.sh", INSTANCE_ID="one").returncode == 0
    assert not calls(board, "sleep")
    assert calls(board, "systemctl")[-1] == "systemctl start --no-block nodeagent-install.service"


@pytest.mark.processes
def test_cloud_init_s_hook_starts_the_service_without_waiting(board: Path) -> None:
    (board / "proc/cmdline").write_text("console=tty1\n")
    for _ in range(2):
        assert run(board, "first-boot.sh").returncode == 0
    assert calls(board, "systemctl")[-1] == "systemctl start --no-block nodeagent-install.service"
    unit = (board / "etc/systemd/system/nodeagent-install.service").read_text()
    assert "RequiresMountsFor=" in unit and "Restart=on-failure" in unit
    assert {p.name for p in (board / "etc/systemd/system").iterdir()} == {
        "nodeagent-install.service", "multi-user.target.wants"
    }  # fmt: skip
    assert (board / WANTS).read_text() == unit


@pytest.mark.processes
def test_once_installed_the_hook_does_nothing(board: Path) -> None:
    (board / "proc/cmdline").write_text("console=tty1\n")
    (board / "var/lib/nodeagent-install").mkdir()
    (board / "var/lib/nodeagent-install/done").write_text("")
    assert run(board, "first-boot.sh").returncode == 0
    assert not (board / "calls").read_text()


@pytest.fixture
def packages(board: Path) -> Path:
    """The board with three packages on the card; it has the second in a newer version."""
    for name in ("nodeagent_0.1.0_all", "python3-click_8.1.3_all", "python3-jwt_2.6.0_all"):
        (board / f"boot/firmware/nodeagent/{name}.deb").write_text("")
    have(board, "python3-click", "8.1.8")
    return board


def have(board: Path, name: str, version: str) -> None:
    """Make dpkg-query's double say that a package is installed."""
    (board / f"state/{name}.Status-Status}}").write_text("installed")
    (board / f"state/{name}.{{Version}}").write_text(version)
    (board / f"state/{name}.${{Version}}").write_text(version)


@pytest.mark.processes
def test_what_is_on_the_card_is_installed_without_asking_the_network(packages: Path) -> None:
    (packages / "proc/cmdline").write_text("console=tty1\n")
    assert run(packages, "first-boot.sh").returncode == 0
    done = run(packages, "install.sh")
    assert done.returncode == 0, done.stderr
    (call,) = calls(packages, "apt-get")
    assert [Path(word).name for word in call.split() if word.endswith(".deb")] == [
        "nodeagent_0.1.0_all.deb", "python3-jwt_2.6.0_all.deb"
    ]  # fmt: skip
    assert (packages / "var/lib/nodeagent-install/done").exists()
    assert not (packages / WANTS).is_symlink()
    assert not list((packages / "etc/systemd/system").glob("nodeagent*"))


@pytest.mark.processes
def test_the_installer_knows_what_the_agent_learned_of_apt(packages: Path) -> None:
    lists = packages / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    (lists / "torn_InRelease").write_text("-----BEGIN PGP SIG")
    (packages / "apt-fails").write_text("")
    (packages / "run").mkdir()
    assert run(packages, "install.sh").returncode == 1
    assert not list(lists.iterdir()), "apt would refuse them each time"
    install, update = calls(packages, "apt-get")[:2]
    assert update.endswith(" update")
    learned = {*actions.INSTALL[3:], "--yes"} - {"-q", "-y", "-o", "APT::Status-Fd=3"}
    learned -= {"--allow-change-held-packages", "--allow-downgrades"}  # for Kubernetes' versions
    learned -= {"DPkg::Lock::Timeout=60"}  # here longer, since nobody sees a wait
    assert learned <= set(install.split())
    (packages / "apt-fails").unlink()
    (packages / "bin/apt-get").write_text(
        f'#!/bin/sh\nfor last; do :; done\n[ "$last" = update ] || [ -e "{packages}/there" ]\n'
    )
    assert run(packages, "install.sh").returncode == 1
    (lists / "whole_InRelease").write_text("")
    assert run(packages, "install.sh").returncode == 1
    assert (lists / "whole_InRelease").exists(), "they are fetched anew once a boot"


@pytest.mark.processes
def test_what_fails_is_tried_with_the_archive_and_then_again_later(packages: Path) -> None:
    (packages / "apt-fails").write_text("")
    assert run(packages, "install.sh").returncode != 0
    assert not (packages / "var/lib/nodeagent-install/done").exists()
    assert [call.split()[-1] for call in calls(packages, "apt-get")][1:2] == ["update"]
    (packages / "apt-fails").unlink()
    assert run(packages, "install.sh").returncode == 0
    assert (packages / "var/lib/nodeagent-install/done").exists()


BROKEN = """Setting up nodeagent (0.1.0) ...
dpkg: error processing package raspi-firmware (--configure):
E: Sub-process /usr/bin/dpkg returned an error code (1)
"""


@pytest.mark.processes
def test_a_broken_package_of_the_system_does_not_end_the_installation(packages: Path) -> None:
    (packages / "dpkg-fails").write_text("")
    assert run(packages, "install.sh").returncode == 0
    assert len(calls(packages, "apt-get")) == 1
    assert (packages / "var/lib/nodeagent-install/done").exists()


@pytest.mark.processes
def test_apt_that_fails_for_another_package_has_installed_ours(packages: Path) -> None:
    (packages / "dpkg-fails").write_text("")
    (packages / "apt-fails").write_text(BROKEN)
    apt = packages / "bin/apt-get"
    installed = packages / "state/nodeagent.Status-Status}"
    apt.write_text(
        apt.read_text().replace("exit 100", f"printf installed >'{installed}'; exit 100")
    )
    assert run(packages, "install.sh").returncode == 0
    assert len(calls(packages, "apt-get")) == 1
    assert (packages / "var/lib/nodeagent-install/done").exists()


@pytest.mark.processes
def test_why_nothing_is_installed_is_said_on_the_boot_partition(packages: Path) -> None:
    status = packages / "boot/firmware/nodeagent-status.txt"
    (packages / "apt-fails").write_text(BROKEN)
    assert run(packages, "install.sh").returncode == 1
    assert "could not be installed yet" in status.read_text()
    assert "dpkg: error processing package raspi-firmware" in status.read_text()
    # The same news wears no card.
    inode, when = status.stat().st_ino, status.stat().st_mtime_ns
    assert run(packages, "install.sh").returncode == 1
    assert (status.stat().st_ino, status.stat().st_mtime_ns) == (inode, when)
    (packages / "apt-fails").unlink()
    assert run(packages, "install.sh").returncode == 0
    assert not status.exists()


@pytest.mark.processes
def test_an_image_that_has_the_agent_gets_nothing_installed(packages: Path) -> None:
    have(packages, "nodeagent", "0.1.0")
    assert run(packages, "install.sh").returncode == 0
    assert not calls(packages, "apt-get")
    assert (packages / "var/lib/nodeagent-install/done").exists()
