"""What each release's systemd makes of our presets, of fstab and of zram-generator's settings."""

from __future__ import annotations

import shutil

from nodeagent.config.settings import Settings
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.steps.swap import ZRAM_GENERATOR, Swap
from tests.systems.unpacked import BUILD, CHECKOUT, FSTAB, Board

ZRAM = "etc/systemd/zram-generator.conf"
SWAP = FSTAB + "/swapfile none swap sw 0 0\n"
FILES = {"etc/fstab": SWAP, ZRAM: "[zram0]\n", ZRAM_GENERATOR[1:]: ""}


def look(release: str) -> dict[str, list[str]]:
    """Names of units: enabled by presets at a first boot, and generated, without our files and with
    them."""
    found: dict[str, list[str]] = {}
    for name in ("without", "with"):
        where = BUILD / "board"
        shutil.rmtree(where, ignore_errors=True)
        (where / "card").mkdir(parents=True)
        board = Board(where, release, "")
        found |= {
            f"enabled at a first boot, {name} our preset": _enabled(board, name == "with"),
            f"generated, {name} our step": _generated(board, name == "with"),
        }
    return found


def _enabled(board: Board, ours: bool) -> list[str]:
    """The same function as systemd calls where the machine-id is `uninitialized` (manager_startup,
    unit_file_preset_all), of our units."""
    systemd = board.upper / "usr/lib/systemd"
    shutil.copytree(CHECKOUT / "systemd", systemd / "system")
    (systemd / "system-preset").mkdir()
    if ours:
        shutil.copy(CHECKOUT / "debian/80-nodeagent.preset", systemd / "system-preset")
    (board.upper / "etc/machine-id").write_text("uninitialized\n")
    (board.where / "cmdline").write_text("root=PARTUUID=6e6f6465-02\n")
    mode = "--preset-mode=enable-only"
    board.call("preset", "/usr/bin/systemctl", "--root=/", "preset-all", mode)
    wants = (board.upper / "etc/systemd/system").glob("*.wants/nodeagent*")
    return sorted(f"{path.parent.name}/{path.name}" for path in wants)


def _generated(board: Board, ours: bool) -> list[str]:
    """Units of fstab and of zram-generator."""
    stage = board.where / "stage"
    for name, text in FILES.items():
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text(text)
    if ours:
        host = Host(stage.resolve())
        for action in list(Swap().plan(Facts(host), Settings())):
            action.do(host)
    shutil.copytree(stage / "etc", board.upper / "etc", dirs_exist_ok=True)
    out = board.generate("systemd-fstab-generator", "zram-generator")
    return sorted({path.name for path in out.glob("*/*") if path.suffix in (".swap", ".mount")})
