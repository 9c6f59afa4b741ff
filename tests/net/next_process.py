"""A made-up next version of nodeagent: ``python -m tests.net.next_process HOW MODULE ARGUMENT...``.

Runs the main of MODULE as a later release would: ``grown`` writes a key more into each object and
a field more into each beacon, which raises no version; ``raised`` announces beacons of format 2 and
signs messages of format 2, which this version must refuse. What it reads is this version's.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from typing import Any
from unittest.mock import patch

from nodeagent.fleet import beacon

FIELDS = 3 + len(beacon._FIELDS)  # with the key and the voucher, before the signature
_dumps = json.dumps


def grown(value: Any) -> Any:
    """What a later release writes in the place of this."""
    if isinstance(value, dict) and any(type(value.get(key)) is int for key in ("v", "version")):
        return {"next": {"a": [1, "x", None]}, **value, "later": True}
    if isinstance(value, list) and len(value) == FIELDS and value[0] == beacon.FORMAT:
        return [*value, "next", 7]
    return value


def raised(value: Any) -> Any:
    """Beacons and signed messages of a format that this version does not know."""
    signed = isinstance(value, dict) and {"fleet", "nonce"} <= value.keys()
    if signed:
        return {**value, "v": value["v"] + 1}
    if isinstance(value, list) and len(value) == FIELDS and value[0] == beacon.FORMAT:
        return [2, *value[1:4], {"all": "else"}]
    return value


def dumps(change: Any, value: Any, **more: Any) -> str:
    """json.dumps of the next version."""
    return _dumps(change(value), **more)


def main(how: str, module: str, *arguments: str) -> None:
    """Run it."""
    change = {"grown": grown, "raised": raised}[how]
    sys.argv[1:] = arguments
    with patch.object(json, "dumps", functools.partial(dumps, change)):
        importlib.import_module(module).main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
