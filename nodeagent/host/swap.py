"""What brings swap up on these systems, read from their files."""

from __future__ import annotations

import re

from nodeagent.host.facts import Facts

MARKER = "# nodeagent: swap is off: "
# rpi-swap's swap.conf(5): drop-ins of these folders, the first folder wins for one name, then
# sorted by name, the last assignment wins.
RPI_FOLDERS = ("/etc/rpi", "/run/rpi", "/usr/local/lib/rpi", "/usr/lib/rpi")


def without_swap(fstab: str) -> str:
    """fstab with its swap lines made comments (fstab(5): the third field is the type)."""
    kept = []
    for line in fstab.splitlines(keepends=True):
        words = line.split()
        is_swap = len(words) > 2 and words[2] == "swap" and not words[0].startswith("#")
        kept.append(MARKER + line if is_swap else line)
    return "".join(kept)


def with_setting(text: str, name: str, value: str) -> str:
    """A shell-style file with ``name=value`` in the place of every assignment of ``name``."""
    line = f"{name}={value}"
    changed, count = re.subn(rf"^\s*{name}=.*$", line, text, flags=re.MULTILINE)
    if count:
        return changed
    return text + ("" if not text or text.endswith("\n") else "\n") + line + "\n"


def rpi_mechanism(facts: Facts, ours: str) -> tuple[str, str]:
    """``Mechanism`` that rpi-swap will use, and the file that says so; ``ours`` counts as if it
    were there and said ``none``."""
    named = {ours.rsplit("/", 1)[1]: ours}
    for folder in RPI_FOLDERS:
        for name in facts.names(f"{folder}/swap.conf.d"):
            if name.endswith(".conf"):
                named.setdefault(name, f"{folder}/swap.conf.d/{name}")
    mechanism, where = "auto", ""
    for name in sorted(named):
        text = "Mechanism=none" if named[name] == ours else facts.text(named[name]) or ""
        for value in re.findall(r"^\s*Mechanism\s*=\s*(\S+)", text, re.MULTILINE):
            mechanism, where = value, named[name]
    return mechanism, where
