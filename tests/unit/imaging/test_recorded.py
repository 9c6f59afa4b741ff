"""What the real programs made of seeded cards (recorded by `make systems`), against the models."""

from __future__ import annotations

import json

import pytest

from nodeagent.imaging import system
from tests.systems import cells
from tests.systems.__main__ import ends_well
from tests.unit.imaging import test_first_boot
from tests.unit.imaging.systems import WAYS

RECORDED = json.loads(cells.RECORD.read_text())
ROWS = {name: (made, journey) for name, made, journey in cells.rows()}
AGAIN = "run make systems"


def test_every_cell_of_the_table_was_run() -> None:
    assert RECORDED["cells"].keys() == ROWS.keys(), AGAIN
    for name, cell in RECORDED["cells"].items():
        assert cell["boots"].keys() == set(ROWS[name][0].releases), AGAIN


@pytest.mark.parametrize("name", RECORDED["cells"])
def test_every_card_installs_the_agent_once_or_is_refused(name: str) -> None:
    for release, boots in RECORDED["cells"][name]["boots"].items():
        assert ends_well(name, boots), (release, boots)


@pytest.mark.parametrize("name", RECORDED["cells"])
def test_it_was_run_with_what_seeding_leaves_today(name: str) -> None:
    assert cells.seeded_line(ROWS[name][0].layout) == RECORDED["cells"][name]["seeded"], AGAIN


@pytest.mark.parametrize("name", sorted(RECORDED["cells"].keys() & WAYS.keys()))
def test_it_is_installed_by_the_way_that_seeding_takes(name: str) -> None:
    ways = WAYS[name][1]
    for boots in RECORDED["cells"][name]["boots"].values():
        assert any("systemd.run=" in boot for boot in boots) == (system.SYSTEMD in ways)
        if ways == (system.CLOUD_INIT,):
            assert any("first-boot.sh by cloud-init" in boot for boot in boots)


JOURNEYS = {
    "bookworm": ("bookworm", "seeded"),
    "bookworm, Imager, seeded": ("bookworm", "Imager, then seeded"),
    "bookworm, seeded, Imager": ("bookworm", "seeded, then Imager"),
    "trixie": ("trixie, the first", "seeded"),
    "trixie, Imager, seeded": ("trixie, the first", "Imager, then seeded"),
    "trixie, seeded, Imager": ("trixie, the first", "seeded, then Imager"),
}


@pytest.mark.parametrize("name", JOURNEYS)
def test_boots_end_as_the_model_has_them(name: str) -> None:
    cell = RECORDED["cells"]["Raspberry Pi OS {}: {}".format(*JOURNEYS[name])]
    (boots,) = cell["boots"].values()
    short = ["reboot" if boot.endswith("then reboot") else boot for boot in boots[:-1]]
    assert [*short[:-1], short[-1].replace("installed", "usual")] == (
        test_first_boot.JOURNEYS[name][1]
    )


@pytest.mark.parametrize("release", RECORDED["units"])
def test_presets_and_generators_do_as_our_files_say(release: str) -> None:
    found = RECORDED["units"][release]
    socket = "sockets.target.wants/nodeagent-broker.socket"
    assert socket in found["enabled at a first boot, without our preset"]
    assert socket not in found["enabled at a first boot, with our preset"]
    assert {"dev-zram0.swap", "swapfile.swap", "boot-firmware.mount"} <= set(
        found["generated, without our step"]
    )
    assert [unit for unit in found["generated, with our step"] if unit.endswith(".swap")] == []
    assert "boot-firmware.mount" in found["generated, with our step"]
