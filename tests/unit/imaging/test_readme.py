"""The commands for flashing of README and docs/images.md, run as they are written, on images made
here."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent import __version__
from nodeagent.cli.main import main
from nodeagent.imaging import bake
from tests.unit.imaging import layouts
from tests.unit.imaging.conftest import DEB
from tests.unit.imaging.test_bake import Workshop

CHECKOUT = Path(__file__).parents[3]
FLASH = (CHECKOUT / "README.md").read_text().split("## Flash")[1].split("\n## ")[0]
TEXT = FLASH + (CHECKOUT / "docs" / "images.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", TEXT, re.M | re.S)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines()]


@pytest.mark.processes
def test_the_commands_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(COMMANDS) == 5 and all(words[0] == "nodeagent" for words in COMMANDS)
    monkeypatch.chdir(tmp_path)
    # A double of the one part that needs the internet.
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr(bake, "_work", Workshop(tmp_path / "inside"))
    layouts.image("trixie", tmp_path).rename("raspios.img")
    shutil.copyfile("raspios.img", "fresh.img")
    layouts.folder(layouts.LAYOUTS["noble"], tmp_path / "bootfs")
    Path("dist").mkdir()
    Path(f"dist/nodeagent_{__version__}_all.deb").write_bytes(DEB)
    for words in COMMANDS:
        # The one place that no test can have is where a desktop mounts a card.
        argv = [str(tmp_path / "bootfs") if word == "/media/you/bootfs" else word for word in words]
        done = CliRunner().invoke(main, argv[1:])
        assert done.exit_code == 0, (words, done.output)
    assert {"home.fleet", "nodeagent.fleet", "home.rpi-imager-manifest"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert "nodeagent.fleet" in layouts.files(Path("home.img"))
    assert "vendor-data" in layouts.files(Path("raspios.img"))
    assert Path("bootfs/vendor-data").exists()
