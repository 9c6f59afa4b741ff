"""How the formats of nodeagent grow: messages, files that its processes share, state on disk.

Each carries its version, a whole number, under ``v`` (the status says ``version``, card files say
``format``). A later nodeagent adds keys without raising it: who does not know them ignores them,
and what an earlier one did not write is filled by defaults. What an old reader must not ignore
raises the version, and an old reader then refuses the whole, in the words of this file. Recordings
of each version stay in ``tests/formats`` for good.
"""

from __future__ import annotations

import re

from nodeagent.errors import OtherVersion

KEY = "v"
BROKER_CONFIG = 2  # of the file that the agent writes and the broker reads; 1 until 0.2.0
# What to do, by where the other version is.
ON_ALL_NODES = "Install the same version of nodeagent on all nodes, on the control plane first."
HERE = "Nothing was changed. Update nodeagent here, or use the version again that wrote it."

_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)', re.DOTALL)


def check(version: object, what: str, reads: int = 1, remedy: str = HERE, oldest: int = 1) -> None:
    """Raises OtherVersion where ``what`` is of a later version than ``reads`` or an earlier one
    than ``oldest``, ValueError where that is not a version. ``what`` begins the sentence."""
    if type(version) is not int or version < 1:
        raise ValueError("it does not say the version of its format")
    if not oldest <= version <= reads:
        raise OtherVersion(
            f"{what} was written by another version of nodeagent (format {version}; this one reads"
            f" {reads}).",
            remedy,
        )


def cut_short(data: bytes) -> bool:
    """True where the text of a JSON object ends before the object does, as when the power went."""
    if b"\0" in data:
        return False
    outside = _STRING.sub(lambda found: b"" if found[0].endswith(b'"') else b"{", data)
    return not data.strip() or outside.count(b"{") > outside.count(b"}")
