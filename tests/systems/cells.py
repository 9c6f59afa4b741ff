"""The cells of the table: what is done to which system's card, in what order, on what release."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodeagent.errors import ImageError
from nodeagent.imaging.seed import Wish, seed
from nodeagent.trust import fleet_file
from tests.systems.unpacked import LABEL, SEED, Board
from tests.unit.imaging import layouts, pi_os
from tests.unit.imaging.conftest import DEB
from tests.unit.imaging.systems import BOTH, DEBIAN, WAYS, Layout, but

RECORD = Path(__file__).with_name("recorded.json")  # what came of each
PI = SEED.read_text()
# Its user-data names a server that is not reached from here, so cloud-init itself fails each time;
# the agent must come all the same.
UNREACHED = "user-data from elsewhere"
NEXT = {"bookworm": "trixie", "trixie": "sid", "sid": "sid"}


@dataclass(frozen=True)
class System:
    """``imager``: how Imager customises it, empty where it does not; ``settings``: of its
    cloud-init, empty where it has none; ``releases`` that stand for it."""

    layout: Layout
    imager: str
    settings: str
    releases: tuple[str, ...]


BOOKWORM = System(layouts.BOOKWORM, "systemd", "", ("bookworm",))
FIRST = but(layouts.TRIXIE, user=None, meta=None, issue=b"Raspberry Pi reference 2025-10-01\n")
TRIXIE = System(layouts.TRIXIE, "cloudinit-rpi", PI, ("bookworm", "trixie", "sid"))
NOBLE = System(layouts.NOBLE, "cloudinit", LABEL, ("trixie",))
RESOLUTE = System(layouts.RESOLUTE, "cloudinit", LABEL, ("sid",))
SYSTEMS = {
    "Raspberry Pi OS bookworm": BOOKWORM,
    "Raspberry Pi OS trixie, the first": System(FIRST, "systemd", "", ("trixie",)),
    "Raspberry Pi OS trixie": TRIXIE,
    "Ubuntu 24.04": NOBLE,
    "Ubuntu 26.04": RESOLUTE,
    "Debian": System(DEBIAN, "", "", ("bookworm", "trixie", "sid")),
}
JOURNEYS = {
    "seeded": ("seed",),
    "seeded, then Imager": ("seed", "imager"),
    "Imager, then seeded": ("imager", "seed"),
    "booted, then seeded": ("boot", "seed"),
    "Imager, booted, then seeded": ("imager", "boot", "seed"),
    "booted, upgraded, then seeded": ("boot", "upgrade", "seed"),
}


def rows() -> Iterator[tuple[str, System, tuple[str, ...]]]:
    """Name, system and journey: each system with each journey, then each layout of WAYS."""
    for name, system in SYSTEMS.items():
        for words, journey in JOURNEYS.items():
            if system.imager or "imager" not in journey:
                yield f"{name}: {words}", system, journey
    for name, (layout, ways) in WAYS.items():
        like = _like(layout)
        if ways == BOTH:  # either way must do
            without = System(layout, like.imager, "", like.releases)
            yield f"{name}; without cloud-init", without, ("seed",)
        settings = like.settings if "cloud-init" in ways else ""
        yield name, System(layout, like.imager, settings, like.releases), ("seed",)


def _like(layout: Layout) -> System:
    """The system that a layout is one of, with one release."""
    if "sysconf.txt" in layout:
        return System(layout, "", "", ("trixie",))
    if "issue.txt" not in layout:
        return RESOLUTE if "current/vmlinuz" in layout else NOBLE
    old = layout["issue.txt"] == layouts.BOOKWORM["issue.txt"]
    return (
        BOOKWORM
        if old or b"firstboot" in layout["cmdline.txt"]
        else System(layout, "", PI, ("trixie",))
    )


def seeded_line(layout: Layout) -> str:
    """The line that seeding leaves, and whether cloud-init has something to read: what a recording
    must have been made with."""
    with tempfile.TemporaryDirectory() as folder:
        board = Path(folder) / "card"
        _seed(layouts.folder(layout, board), Path(folder))
        new = board / "current/cmdline.txt"
        line = (new if new.exists() else board / "cmdline.txt").read_text().rstrip()
        return line + (" + vendor-data" if (board / "vendor-data").exists() else "")


def run(system: System, journey: tuple[str, ...], release: str, where: Path) -> list[str]:
    """What each boot came to after the journey, until two came that change nothing any more; or one
    word why the card was refused."""
    board = Board(where, release, system.settings if release != "bookworm" else _older(system))
    layouts.folder(system.layout, board.card)
    for step in journey:
        if step == "seed":
            try:
                _seed(board.card, where)
            except ImageError as error:
                return [f"refused: {error.reason}"]
        elif step == "imager":
            pi_os.customise(board.card, system.imager)
        elif step == "upgrade":
            board.release = NEXT[release]
        else:
            while board.boot() not in ("usual", "installed"):
                pass
    said: list[str] = []
    while said[-1:] != ["usual"] and len(said) < 7:
        said.append(board.boot())
    return said


def _older(system: System) -> str:
    """The settings as the cloud-init of bookworm takes them: 22.4 puts a file's name right behind
    ``seedfrom``. No system of Raspberry Pi's has that version; this one stands for older ones."""
    return system.settings.replace("file:///boot/firmware", "file:///boot/firmware/")


def _seed(card: Path, where: Path) -> None:
    deb, fleet = where / "nodeagent_0_all.deb", where / "home.fleet"
    deb.write_bytes(DEB)
    fleet.write_bytes(fleet_file.make("home")[0])
    seed(card, Wish(fleet, deb=deb))
