"""The kernel's command line as a cmdline.txt holds it: one line of words, changed word by word.

Where a word ends is the kernel's rule: white space outside double quotes (lib/cmdline.c, next_arg).
Where the line ends is the firmware's: it reads the first line and ignores what follows
(raspberrypi.com/documentation, "Kernel command line"; Ubuntu's README on the boot partition).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

LIMIT = 2048  # COMMAND_LINE_SIZE of Linux on arm64 and x86, the closing NUL included
MARK = b"\xef\xbb\xbf"  # the byte order mark that Windows' editors put first

# White space as the kernel's isspace has it, 0xA0 among it (lib/ctype.c).
WORD = re.compile(rb'(?:[^"\t-\r \xa0]|"[^"]*"?)+')

# rpi-imager's first-boot script removes everything from `` systemd.run`` on, and words after ``--``
# go to init (kernel docs, kernel-parameters): what shall stay must stand before both.
INIT = b"--"
RUN = b"systemd.run"


def words(data: bytes) -> list[bytes]:
    """The words of the first line that is not blank."""
    lines = data.removeprefix(MARK).split(b"\n")
    return WORD.findall(next((line for line in lines if line.strip()), b""))


def was_read(running: bytes, data: bytes, ours: Collection[str]) -> bool:
    """True where the ``running`` kernel's command line ends with the words of this file.

    ``ours`` count on neither side: they may have been added since.
    """
    added = {word.encode() for word in ours}
    mine = [word for word in words(data) if word not in added]
    said = [word.removeprefix(MARK) for word in words(running) if word not in added]
    return bool(mine) and said[-len(mine) :] == mine


def add(data: bytes, wanted: Sequence[str], off: Collection[str], proved: bool = False) -> bytes:
    """``data`` of a cmdline.txt with each of ``wanted`` in force, once, at the end of its line.

    A wanted word that stands after every word of ``off`` (what would undo it; later words win) is
    in force already. No word is dropped or moved. A byte order mark and white space around the
    line go; text that follows it stays byte for byte. ``proved`` says that a kernel was started
    with this file, so that empty lines before its words are known to do no harm.

    Raises ValueError, as the end of a sentence, where the line is not what the firmware or the
    kernel would read as one, so that a change could have an effect that nobody asked for.
    """
    line, rest = _first_line(data.removeprefix(MARK), proved)
    found = list(WORD.finditer(line))
    stop = next((at for at, word in enumerate(found) if _ends_the_line(word[0])), len(found))
    before = [word[0] for word in found[:stop]]
    tail = [word[0] for word in found[stop:]]
    if INIT in tail:
        tail = tail[: tail.index(INIT)]
    if any(_is_one_of(word, off) for word in tail):
        raise ValueError(f"says {' or '.join(off)} after {RUN.decode()}, where nothing may follow")
    undone = max((at for at, word in enumerate(before) if _is_one_of(word, off)), default=-1)
    missing = [word.encode() for word in wanted if word.encode() not in before[undone + 1 :]]
    if missing:
        if line.count(b'"') % 2:
            raise ValueError("has a double quote that is never closed")
        end = found[stop].start() if stop < len(found) else len(line)
        line = b" ".join(part for part in (line[:end].rstrip(), *missing, line[end:]) if part)
    return line + b"\n" + rest


def _first_line(text: bytes, proved: bool) -> tuple[bytes, bytes]:
    """The line of words, and what follows it. Raises ValueError."""
    if not text.strip():
        raise ValueError("is empty")
    first, _, rest = text.partition(b"\n")
    if not first.strip() and not proved:
        raise ValueError("begins with an empty line, and the firmware reads the first line only")
    while not first.strip():
        first, _, rest = rest.partition(b"\n")
    if b"\0" in first:
        raise ValueError("holds bytes that are no text")
    if b"\r" in first.strip():
        raise ValueError("holds a carriage return in the middle of its line")
    return first.strip(), rest if rest.strip() else b""


def _ends_the_line(word: bytes) -> bool:
    return word == INIT or word.startswith(RUN)


def _is_one_of(word: bytes, off: Collection[str]) -> bool:
    """``cgroup_disable=memory`` matches ``cgroup_disable=cpu,memory`` too. To the kernel ``-`` and
    ``_`` are one in names, and quotes around values are none of them (kernel/params.c)."""
    name, _, values = word.replace(b'"', b"").decode("utf-8", "replace").partition("=")
    return any(f"{name.replace('-', '_')}={value}" in off for value in values.split(","))
