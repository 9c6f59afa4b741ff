"""How a hostile program tries its attacks: each in a process of its own, since some change it.

Such a program finds nothing of the tests where it runs: ``standalone`` gives it with this in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
ATTACKS: list[Callable[[], object]] = []


def attack(function: Callable[[], object]) -> Callable[[], object]:
    """It got through where it returns something that counts."""
    ATTACKS.append(function)
    return function


def try_all() -> None:
    """Prints a JSON object: how many were tried, and attack -> what it reached. Nothing reached is
    nothing printed."""
    found = {}
    for one in ATTACKS:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            try:
                said = one()
            except OSError:
                said = ""
            os.write(writer, str(said or "").encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        # What lives on holds the pipe open.
        answer = os.read(reader, 4096).decode() if one.__name__ != "living_on" else ""
        os.close(reader)
        if answer:
            found[one.__name__] = answer
    sys.stdout.write(json.dumps({"tried": len(ATTACKS), "found": found}))


def standalone(program: Path) -> str:
    """The text of a program that imports from here, with this text in the place of that line."""
    kept = Path(__file__).read_text().replace("from __future__ import annotations\n", "")
    line = "from tests.support.attacks import LIBC, X86, attack, try_all\n"
    text = program.read_text()
    assert text.count(line) == 1
    return text.replace(line, kept)
