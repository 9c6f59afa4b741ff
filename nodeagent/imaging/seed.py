"""``nodeagent image seed``: makes a stock image, or a card, one of the fleet's.

Only the boot partition changes. What is to change is worked out on a copy of its small files, by
the same code as on a node, and written when everything is known to be right.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nodeagent import paths
from nodeagent.config import settings as config
from nodeagent.config import yaml_lines
from nodeagent.errors import AlreadyExists, FleetError, NoRoom, Refused
from nodeagent.host.boot import files as bootfiles
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host
from nodeagent.imaging import first_boot, fleet_files, inspect, packages, system, tools
from nodeagent.imaging.boot_partition import CLUSTER, Boot, open_boot
from nodeagent.steps.cgroup import Cgroup
from nodeagent.trust import fleet_file, wire

SETTINGS = "nodeagent.yaml"

# Large files, whose names are enough to know; config.txt may include any other.
BULK = (".dtb", ".dtbo", ".elf", ".bin", ".dat", ".img", ".gz", ".deb", ".efi", ".bmp", ".sig")
BULK_NAMES = ("vmlinuz", "initrd", "initramfs", "kernel", "README")


@dataclass(frozen=True)
class Wish:
    """What shall be on the card. ``settings`` is the user's own file; ``role`` and
    ``expected_nodes`` are added to it. Without ``install`` the image has the agent already."""

    fleet: Path
    role: str | None = None
    expected_nodes: int | None = None
    settings: Path | None = None
    deb: Path | None = None
    packages: Path | None = None
    install: bool = True
    node_name: str | None = None


def seed(target: Path, wish: Wish) -> list[str]:
    """Seed an image file or a mounted card; lines for people.

    Raises ImageError, FleetError, ConfigError, Refused, ToolMissing, CommandFailed, Blocked,
    OSError. Where it raises, the target is as it was.
    """
    card = fleet_files.read(wish.fleet).card_file(wish.role)
    boot = open_boot(target)
    names = boot.names()
    architecture = inspect.check(boot, names)
    files = packages.read(wish.packages, wish.deb, architecture) if wish.install else {}
    with tempfile.TemporaryDirectory(prefix="nodeagent-") as folder:
        host = Host(Path(folder).resolve())
        stage(boot, names, host, files)
        before = contents(host)
        for name, data in files.items():
            host.write(f"{paths.BOOT}/{name}", data)
        words = system.words_of_line(Facts(host))
        found = system.recognise(Facts(host), names, words) if wish.install else None
        order = [*files, *plan(host, wish, card, found)]
        changes = in_order(before, contents(host), order)
    _check_room(boot, changes)
    if changes:
        boot.write(changes)
    name = fleet_file.parse(card).name
    if not changes:
        return [f"{target} is a card of the fleet {name} already; nothing had to be changed."]
    return [
        *(f"wrote {name} ({len(data)} bytes)" for name, data in changes),
        _how(found),
        *_votes(wish, fleet_file.parse(card)),
        f"{target} is a card of the fleet {name} now. Whoever has it can join the fleet.",
        *([] if target.is_dir() else tools.notes()),
    ]


def _votes(wish: Wish, card: fleet_file.CardFile) -> list[str]:
    """What to look out for where this board will be expected and has no vote."""
    if wish.role != "worker" or not wish.expected_nodes or card.lead_cards:
        return []
    told = (
        "With expected_nodes only boards whose card may lead vote, and this one may not. Where half"
        " of the boards or more are like it, make the fleet with `nodeagent fleet new --split`, or"
        " leave expected_nodes out of the settings of the board that shall lead."
    )
    return [told]


def _how(found: system.System | None) -> str:
    if found is None:
        return "Nothing on it installs nodeagent: that is expected to be inside already."
    because = f", since {found.why}" if found.why else ""
    ways = " and ".join(found.ways)
    return f"Its {found.name} installs nodeagent at its first boot by {ways}{because}."


def stage(boot: Boot, names: list[str], host: Host, files: dict[str, bytes]) -> None:
    """Copy what a plan may look into; of large files only the name, and of the packages that shall
    be there their content."""
    for name in names:
        last = PurePosixPath(name).name
        bulk = last.endswith(BULK) or last.startswith(BULK_NAMES)
        # Other names no boot file has, and not every mtools finds them again.
        data = boot.read(name) if name in files or (not bulk and name.isascii()) else b""
        path = host.root / paths.BOOT.lstrip("/") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def plan(host: Host, wish: Wish, card: bytes, found: system.System | None) -> list[str]:
    """Change the staged files; names in the order in which they must be written: nothing is started
    before all that it needs is there. Nothing is installed where no system was ``found``.

    Raises ConfigError, Refused, FleetError, Blocked.
    """
    order = []
    text = _settings(host, wish)
    if text is not None:
        host.write(f"{paths.BOOT}/{SETTINGS}", text)
        order.append(SETTINGS)
    settings = config.load(host).settings
    if not _has_card(host, card):
        host.write(f"{paths.BOOT}/{fleet_file.NAME}", card)
        order.append(fleet_file.NAME)
    if found:
        order += first_boot.write(host, paths.BOOT, found.ways)
    for action in list(Cgroup().plan(Facts(host), settings)):
        if action.file_only:
            action.do(host)
    return order


def contents(host: Host) -> dict[str, bytes]:
    """The staged files, by their names on the boot partition."""
    top = host.root / paths.BOOT.lstrip("/")
    files = [path for path in top.rglob("*") if path.is_file()]
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in files}


def in_order(
    before: dict[str, bytes], after: dict[str, bytes], order: list[str]
) -> list[tuple[str, bytes]]:
    """What differs: first the names of ``order``, then the boot files, copies of old ones before
    the new ones."""

    def place(name: str) -> tuple[int, bool, str]:
        known = order.index(name) if name in order else len(order)
        return known, not name.endswith(bootfiles.BACKUP), name

    changed = [name for name, data in after.items() if before.get(name) != data]
    return [(name, after[name]) for name in sorted(changed, key=place)]


def _has_card(host: Host, card: bytes) -> bool:
    """True where that very card file is there. Raises FleetError, Refused for another one."""
    there = host.read(f"{paths.BOOT}/{fleet_file.NAME}")
    if there is None:
        return False
    remedy = "Take a fresh image, or flash the card anew."
    if fleet_file.is_scrubbed(there):
        raise Refused("This card has been in a board, which took its keys over.", remedy)
    try:
        old, new = fleet_file.parse(there), fleet_file.parse(card)
    except wire.Malformed as error:
        raise FleetError(f"The {fleet_file.NAME} on it is damaged: {error}.", remedy) from error
    if old.fleet_id != new.fleet_id:
        raise Refused(
            f"This was made a card of another fleet before ({old.name}, {old.fleet_id}).", remedy
        )
    if old != new:
        # Replaced, the other's key could still be read from free blocks of the card.
        raise Refused("This was made a card for another role in this fleet before.", remedy)
    return True


def _settings(host: Host, wish: Wish) -> bytes | None:
    """The settings file for the card; None where it stays as it is. Raises Refused, ConfigError."""
    there = host.read(f"{paths.BOOT}/{SETTINGS}")
    text = wish.settings.read_bytes() if wish.settings else None
    extra = {"role": wish.role, "expected_nodes": wish.expected_nodes}
    extra["node_name"] = wish.node_name
    wanted = {name: str(value) for name, value in extra.items() if value is not None}
    base = there or b"" if text is None else text
    where = str(wish.settings) if wish.settings else f"{paths.BOOT}/{SETTINGS}"
    said = yaml_lines.parse(base, where)
    for name, value in wanted.items():
        entry = said.get(name)
        if entry is None:
            base = base.rstrip(b"\r\n") + b"\n" * bool(base.strip()) + f"{name}: {value}\n".encode()
        elif str(entry.value) != value:
            raise Refused(
                f"{where}, line {entry.line}, says `{name}: {entry.value}`, and you ask for"
                f" {value}.",
                "Correct one of the two.",
            )
    if there is not None and text is not None and base != there:
        raise AlreadyExists(
            f"There is a {SETTINGS} on it already, and it is another one than {wish.settings}.",
            "Remove it from the card, or leave --settings out.",
        )
    return base if base or text is not None else None


def _check_room(boot: Boot, changes: list[tuple[str, bytes]]) -> None:
    """Each file takes whole clusters, and the old one stays until the new one is there."""
    needed = sum(-(-len(data) // CLUSTER) * CLUSTER for _, data in changes)
    free = boot.free() if changes else 0
    if needed > free:
        raise NoRoom(
            f"The boot partition has no room: {needed // 1024} KiB are needed, {free // 1024} KiB"
            " are free.",
            "Leave --packages out, so that the board fetches them itself, or take a fresh image.",
        )
