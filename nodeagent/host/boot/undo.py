"""Takes words back out of the boot files that nodeagent put there, and nothing else.

Others may have changed a file since (the imager, raspi-config, Ubuntu's A/B updates move and copy
whole folders), so the backup beside it is not put back blindly: it only tells which of the words
were there before. Where nothing but our words differs, its very bytes come back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from nodeagent.host.actions import Action, Remove, Write
from nodeagent.host.boot.files import BACKUP, EXTRA, FOLDERS, STUB
from nodeagent.host.facts import Facts


def undo(facts: Facts, ours: Collection[str]) -> Iterator[Action]:
    """The files without ``ours``, then without the backups. Without any backup nodeagent never
    edited a boot file here, and a word that stands there is somebody else's."""
    paths = [
        f"{folder}/{name}"
        for base in FOLDERS
        for folder in (base, *(f"{base}/{name}" for name in facts.names(base)))
        for name in facts.names(folder)
    ]
    backups = [path for path in dict.fromkeys(paths) if path.endswith(BACKUP)]
    if not backups:
        return
    edited = {path.removesuffix(BACKUP) for path in backups}
    edited |= {path for path in paths if path.endswith("/cmdline.txt")} | {EXTRA}
    words = [word.encode() for word in ours]
    for path in sorted(edited):
        data = facts.read(path)
        # Ubuntu renames current/ to old/ with an update, and the backup with it.
        own = facts.read(path + BACKUP)
        before = own if own is not None else facts.read(backups[0]) or b""
        if data is None or STUB in data:
            continue
        wanted = own if own is not None and _only_added(data, own, words) else None
        if wanted is None:
            wanted = _without(data, before, words)
        if wanted != data:
            yield Remove(path) if path == EXTRA and not wanted.strip() else Write(path, wanted)
    for path in backups:
        yield Remove(path)


def _only_added(data: bytes, before: bytes, words: list[bytes]) -> bool:
    """True where ``data`` is ``before`` with nothing but some of ``words`` put in."""
    old = _words(before)
    for word in _words(data):
        if old and word == old[0]:
            old.pop(0)
        elif word not in words:
            return False
    return not old


def _without(data: bytes, before: bytes, words: list[bytes]) -> bytes:
    """``data`` without those of ``words`` that its line has oftener than it had before: the last
    ones, each with the space before it. All other bytes stay."""
    line, newline, rest = data.partition(b"\n")
    for word in words:
        more = _words(line).count(word) - _words(before.split(b"\n")[0]).count(word)
        found = list(re.finditer(rb"(?:^|[ \t]+)" + re.escape(word) + rb"(?=\s|$)", line))
        for match in reversed(found[len(found) - more :] if more > 0 else []):
            line = line[: match.start()] + line[match.end() :]
    return line + newline + rest


def _words(data: bytes) -> list[bytes]:
    return data.removeprefix(b"\xef\xbb\xbf").split()
