"""What a boot partition is taken for, and how its first boot is made to run ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.errors import Blocked, ImageError
from nodeagent.host.boot import cmdline
from nodeagent.imaging import first_boot, manifest, system
from nodeagent.imaging.seed import Wish, seed
from tests.unit.imaging import layouts
from tests.unit.imaging.conftest import DEB
from tests.unit.imaging.layouts import BOOKWORM
from tests.unit.imaging.systems import BOTH, CLOUD, LINE, PLAIN, REFUSED, WAYS, Layout, plus

LAB = Path(__file__).parents[3] / "image/lab/firmware"


def contents(card: Path) -> Layout:
    found = (path for path in card.rglob("*") if path.is_file())
    return {path.relative_to(card).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def wish(fleet: Path, tmp_path: Path) -> Wish:
    deb = tmp_path / "nodeagent_0.1.0_all.deb"
    deb.write_bytes(DEB)
    return Wish(fleet, deb=deb)


@pytest.mark.parametrize("name", WAYS)
def test_the_first_boot_runs_ours(name: str, tmp_path: Path, wish: Wish) -> None:
    layout, ways = WAYS[name]
    card = layouts.folder(layout, tmp_path / "card")
    said = seed(card, wish)
    found = contents(card)
    line = cmdline.words(found.get("current/cmdline.txt") or found["cmdline.txt"])
    taken = (CLOUD if "vendor-data" in found else ()) + (
        LINE if first_boot.RUN.encode() in line else ()
    )
    assert taken == ways, said
    assert ("nodeagent/first-boot.sh" in found) == (LINE[0] in ways)
    # Wherever systemd runs something for us, its failing does not power the board off.
    assert (first_boot.FAILED.encode() in line) == (LINE[0] in ways)
    assert any(f"at its first boot by {' and '.join(ways)}" in text for text in said)
    seed(card, wish)
    assert contents(card) == found


@pytest.mark.parametrize("name", REFUSED)
def test_a_card_on_which_nothing_would_come_of_it_is_refused(
    name: str, tmp_path: Path, wish: Wish
) -> None:
    layout, told = REFUSED[name]
    card = layouts.folder(layout, tmp_path / "card")
    with pytest.raises(ImageError) as caught:
        seed(card, wish)
    assert told in caught.value.reason
    assert contents(card) == layout


def test_the_lab_s_system_is_known(tmp_path: Path, wish: Wish) -> None:
    """It stands for Raspberry Pi OS, and is started by the same signs."""
    card = layouts.folder(
        {path.name: path.read_bytes() for path in LAB.iterdir()}, tmp_path / "card"
    )
    assert any("Raspberry Pi OS installs" in text for text in seed(card, wish))
    assert (card / "vendor-data").exists() and not (card / "nodeagent/first-boot.sh").exists()


def test_an_image_that_has_the_agent_needs_no_way_and_says_so(tmp_path: Path, fleet: Path) -> None:
    card = layouts.folder(PLAIN, tmp_path / "card")
    said = seed(card, Wish(fleet, install=False))
    assert any("expected to be inside" in text for text in said)
    assert "nodeagent.fleet" in contents(card) and "vendor-data" not in contents(card)


def test_the_word_of_an_earlier_version_is_replaced(tmp_path: Path, wish: Wish) -> None:
    old = " ".join((first_boot.RUN_BEFORE, *first_boot.AFTER)).encode()
    card = layouts.folder(plus(BOOKWORM, old), tmp_path / "card")
    seed(card, wish)
    words = cmdline.words((card / "cmdline.txt").read_bytes())
    assert first_boot.RUN_BEFORE.encode() not in words
    assert [words.count(word.encode()) for word in (first_boot.RUN, first_boot.FAILED)] == [1, 1]


def test_the_root_of_the_backup_is_not_to_be_taken(tmp_path: Path, wish: Wish) -> None:
    """The first boot gives the card a new disk id and writes it into the file alone."""
    card = layouts.folder(BOOKWORM, tmp_path / "card")
    seed(card, wish)
    (card / "cmdline.txt").write_bytes(b"\n")
    with pytest.raises(Blocked) as caught:
        seed(card, replace(wish, install=False))
    assert "nodeagent-backup" in caught.value.remedy and "keep its root=" in caught.value.remedy


PI = "Raspberry Pi OS"


@pytest.mark.parametrize(
    ("found", "words", "date", "wanted"),
    [
        (system.System(PI, LINE), [], "2025-05-13", "systemd"),
        (system.System(PI, LINE), [system.FIRSTBOOT], "2026-11-01", "systemd"),
        (system.System(PI, LINE), [], "2026-11-01", "none"),  # may want rpi-preseed
        (system.System(PI, LINE), [], None, "none"),
        (system.System(PI, LINE, "cloud-init is off"), [], "2025-05-13", "none"),
        (system.System(PI, CLOUD), [], "2026-06-18", "cloudinit-rpi"),
        (system.System(PI, BOTH, "cannot be told"), [], "2026-06-18", "none"),
        (system.System("Ubuntu", CLOUD), [], None, "cloudinit"),
        (system.System("Ubuntu", LINE), [], None, "none"),
        (system.System("Debian", LINE), [], None, "none"),
        (None, [], None, "none"),
    ],
)
def test_imager_customises_only_by_a_way_that_is_known(
    found: system.System | None, words: list[bytes], date: str | None, wanted: str
) -> None:
    assert manifest.customised_by(found, words, date) == wanted
