"""What apt has fetched, and whether a power cut has damaged it. apt syncs none of it, takes empty
lists for current as long as the repository does not change, and refuses torn ones for good.

Seen with apt 2.6: an index cut short ends `apt-get update` with status 100 each time; one cut
between two packages, or empty, passes in silence. A Release names the sizes of its indexes
(wiki.debian.org, "DebianRepository/Format").
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeagent import paths
from nodeagent.host.facts import Facts

SIGNED_TO_THE_END = "-----END PGP SIGNATURE-----"  # RFC 9580 7


def damaged(facts: Facts) -> Iterator[str]:
    """All lists, where any of them was cut off: apt looks at none of them apart."""
    names = [
        name for name in facts.names(paths.APT_LISTS) if _is_release(name) or "_Packages" in name
    ]
    if not all(_is_whole(facts, name, names) for name in names):
        yield from (f"{paths.APT_LISTS}/{name}" for name in names)


def _is_whole(facts: Facts, name: str, names: list[str]) -> bool:
    path = f"{paths.APT_LISTS}/{name}"
    if facts.size(path) == 0:
        return False
    if not _is_release(name):
        return True
    text = facts.text(path) or ""
    if name.endswith("_InRelease") and not text.rstrip().endswith(SIGNED_TO_THE_END):
        return False
    stem = name.removesuffix("Release").removesuffix("In")
    lines = (line.split() for line in text.splitlines() if line.startswith(" "))
    sizes = {words[2].replace("/", "_"): words[1] for words in lines if len(words) == 3}
    indexes = {other: other.removeprefix(stem) for other in names if other.startswith(stem)}
    return all(
        str(facts.size(f"{paths.APT_LISTS}/{other}")) == sizes[index]
        for other, index in indexes.items()
        if index in sizes
    )


def _is_release(name: str) -> bool:
    return name.endswith(("_InRelease", "_Release"))
