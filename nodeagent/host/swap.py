"""What brings swap up on these systems, read from their files. Each change made here has its way
back: what is switched off stays in its file as a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodeagent.host.facts import Facts

MARKER = "# nodeagent: swap is off: "
# rpi-swap's swap.conf(5): drop-ins of these folders, the first folder wins for one name, then
# sorted by name, the last assignment wins.
RPI_FOLDERS = ("/etc/rpi", "/run/rpi", "/usr/local/lib/rpi", "/usr/lib/rpi")
# zram-generator.conf(5): the same rules, and the main file of the first folder sorts before all.
ZRAM_FOLDERS = ("/run/systemd", "/etc/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
DPHYS_LINE = "# nodeagent: size 0 turns swap off.\nCONF_SWAPSIZE=0\n"


def without_swap(fstab: str) -> str:
    """fstab with its swap lines made comments (fstab(5): the third field is the type).

    Lines end at a newline only: str.splitlines would also cut where a label has the byte 0x85.
    """
    return "\n".join(MARKER + line if _is_swap(line) else line for line in fstab.split("\n"))


def _is_swap(line: str) -> bool:
    words = line.split()
    return len(words) > 2 and words[2] == "swap" and not words[0].startswith("#")


def with_swap(text: str) -> str:
    """What was made a comment here is none any more: the way back, to the byte."""
    return re.sub(f"^{re.escape(MARKER)}", "", text, flags=re.MULTILINE)


def dphys_off(text: str) -> str:
    """/etc/dphys-swapfile, which is sourced as shell, with size 0: its script
    then deletes the swap file and makes none that mkswap would take (20100506-7.1).

    Our line stands first, so that a missing last newline stays missing.
    """
    rest = text.removeprefix(DPHYS_LINE)
    return DPHYS_LINE + re.sub(r"^(?=[ \t]*CONF_SWAPSIZE=)", MARKER, rest, flags=re.MULTILINE)


def dphys_on(text: str) -> str:
    """The way back of ``dphys_off``, to the byte."""
    return with_swap(text.removeprefix(DPHYS_LINE))


def rpi_mechanism(facts: Facts, ours: str) -> tuple[str, str]:
    """``Mechanism`` that rpi-swap will use, and the file that says so; ``ours`` counts as if it
    were there and said ``none``."""
    mechanism, where = "auto", ""
    for path in _drop_ins(facts, RPI_FOLDERS, "swap.conf.d", ours):
        text = "Mechanism=none" if path == ours else facts.text(path) or ""
        for _, key, value in _settings(text):
            if key == "Mechanism":
                # Nothing behind the sign: back to the default, as rpi-swap's swap.conf(5) has it.
                mechanism, where = value or "auto", path
    return mechanism, where


def zram_swaps(facts: Facts, ours: str) -> tuple[list[str], str]:
    """The devices that zram-generator would make swap of, were it not for ``ours``; and the file
    that sorts after ``ours`` and sets their ``host-memory-limit`` again, or nothing.

    zram0 counts even where nothing asks for it now: rpi-swap keeps Debian's own default of it
    down, and when rpi-swap is removed that default is back.
    """
    found: dict[str, dict[str, str]] = {"zram0": {}}
    later: dict[str, str] = {}
    mains = [f"{folder}/zram-generator.conf" for folder in ZRAM_FOLDERS]
    main = next((path for path in mains if facts.exists(path)), "")
    drop_ins = _drop_ins(facts, ZRAM_FOLDERS, "zram-generator.conf.d", ours)
    after = False
    for path in [main, *drop_ins]:
        if path == ours:
            after = True
            continue
        for section, key, value in _settings(facts.text(path) or "" if path else ""):
            found.setdefault(section, {})[key] = value
            if after and key in ("host-memory-limit", "memory-limit"):
                later[section] = path
    # With a mount point, or another file system than swap, it is no swap (same page, fs-type).
    swaps = [
        name
        for name, keys in found.items()
        if re.fullmatch(r"zram[0-9]+", name)
        and not keys.get("mount-point")
        and (keys.get("fs-type", "swap") == "swap" or name == "zram0")
    ]
    return sorted(swaps), next((later[name] for name in swaps if name in later), "")


def _drop_ins(facts: Facts, folders: tuple[str, ...], name: str, ours: str) -> list[str]:
    """The drop-ins that count, with ``ours`` among them, in the order they are read."""
    named = {ours.rsplit("/", 1)[1]: ours}
    for folder in folders:
        for file in facts.names(f"{folder}/{name}"):
            if file.endswith(".conf"):
                named.setdefault(file, f"{folder}/{name}/{file}")
    return [named[file] for file in sorted(named)]


def _settings(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of each line, and each section once with an empty key."""
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
            yield section, "", ""
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()
