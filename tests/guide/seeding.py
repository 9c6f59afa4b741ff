"""The page of systems: what seeding makes of each layout of the unit tier's table."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nodeagent import paths
from nodeagent.errors import ImageError
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.imaging import first_boot, inspect, seed, system
from nodeagent.imaging.boot_partition import CardFolder
from tests.guide.pages import MADE
from tests.unit.imaging import layouts
from tests.unit.imaging.systems import REFUSED, WAYS, Layout

INTRODUCTION = f"""\
# Systems and cards

{MADE}
What `nodeagent image seed` does with an image or a card, by the signs on its boot partition. With
`cloud-init` the hook is in vendor-data; `systemd.run=` is a word on the kernel command line and
costs one more reboot. Where it cannot be told whether cloud-init will look, both are used: the
installer runs once. What is refused is left as it was.

The tests make these layouts with the names and texts of the real ones. What Imager and Raspberry Pi
OS's imager_fixup then do to the line is a model in the tests, and systemd's own generator reads the
result. No image as its publisher made it has been booted.

| image or card | what is done |
|---|---|
"""


def page() -> str:
    """Markdown, a row a layout."""
    rows = [f"| {name} | {_verdict(layout)} |\n" for name, (layout, _) in (WAYS | REFUSED).items()]
    return INTRODUCTION + "".join(rows)


def _verdict(layout: Layout) -> str:
    with tempfile.TemporaryDirectory() as card, tempfile.TemporaryDirectory() as staged:
        boot, host = CardFolder(layouts.folder(layout, Path(card))), Host(Path(staged).resolve())
        names = boot.names()
        try:
            inspect.check(boot, names)
            seed.stage(boot, names, host, {})
            words = system.words_of_line(Facts(host))
            found = system.recognise(Facts(host), names, words)
            first_boot.write(host, paths.BOOT, found.ways)
        except ImageError as error:
            return f"refused: {error.reason}"
    ways = " and ".join(f"`{way}`" for way in found.ways)
    return f"{ways}{found.why and f': {found.why}'}"
