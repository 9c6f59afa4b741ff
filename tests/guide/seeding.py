"""The page of systems: what seeding makes of each layout of the unit tier's table."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from nodeagent import paths
from nodeagent.errors import ImageError
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.imaging import first_boot, inspect, seed, system
from nodeagent.imaging.boot_partition import CardFolder
from tests.guide.pages import MADE
from tests.systems import cells
from tests.unit.imaging import layouts
from tests.unit.imaging.systems import REFUSED, WAYS, Layout

INTRODUCTION = f"""\
# Systems and cards

{MADE}
What `nodeagent image seed` does with an image or a card, by the signs on its boot partition. With
`cloud-init` the hook is in vendor-data; `systemd.run=` is a word on the kernel command line and
costs one more reboot. Where it cannot be told whether cloud-init will look, both are used: the
installer runs once. What is refused is left as it was.

The tests make these layouts with the names and texts of the real ones, and `make systems` puts each
seeded card into the hands of real programs: systemd's generators and cloud-init, with its generator
and ds-identify, of these packages of Debian:

VERSIONS
They run in namespaces of their own, from packages that are unpacked and not installed. The scripts
of the seed are the real ones; install.sh finds the agent installed. Doubles are systemctl, of which
it is written down how it is called, and what tells cloud-init that it is on a board and where the
partition `system-boot` is. Models are Raspberry Pi OS before systemd starts (raspberrypi-sys-mods:
imager_fixup at 3af395f and at 01b6fc5b, firstboot at 3af395f, set_partuuid at 5c673174; the real
scripts' edits gave the same for every line of the tests), what Imager writes, and Ubuntu, whose
cloud-init and systemd are Debian's here. No image as its publisher made it has been booted. In one
row cloud-init itself fails, since the user-data names a server that is not reached from here.

## Systems, and when they were seeded

Each boot after the journey, until one changes nothing any more. Upgraded is to the next release.

| system | journey | with | its boots |
|---|---|---|---|
JOURNEYS
## Layouts, and how they are told apart

| image or card | what is done | its boots |
|---|---|---|
"""


def page() -> str:
    """Markdown, a row a layout."""
    record = json.loads(cells.RECORD.read_text())
    versions = "".join(
        f"* {release}: {', '.join(f'{name} {version}' for name, version in of.items())}\n"
        for release, of in record["versions"].items()
    )
    journeys, layouts_ = "", ""
    for name, _, _ in cells.rows():
        if name.split("; ")[0] in WAYS:
            continue
        for boots, releases in _alike(record["cells"][name]["boots"]).items():
            journeys += f"| {name.replace(': ', ' | ')} | {releases} | {boots} |\n"
    for name, (layout, _) in (WAYS | REFUSED).items():
        run = [record["cells"].get(name + more) for more in ("", "; without cloud-init")]
        boots = " / ".join("; ".join(_alike(cell["boots"])) for cell in run if cell)
        layouts_ += f"| {name} | {_verdict(layout)} | {boots} |\n"
    text = INTRODUCTION.replace("VERSIONS", versions).replace("JOURNEYS\n", journeys + "\n")
    return text + layouts_


def _alike(boots: dict[str, list[str]]) -> dict[str, str]:
    """What each boot came to, and the releases with which it did."""
    found: dict[str, list[str]] = {}
    for release, said in boots.items():
        found.setdefault("; ".join(said), []).append(release)
    return {said: ", ".join(releases) for said, releases in found.items()}


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
