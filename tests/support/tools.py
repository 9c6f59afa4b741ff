"""Programs that tests call. One that is missing is a failure, not a pass."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def tool(name: str, remedy: str) -> str:
    """Where a tool is: in the virtual environment of this Python, or on the machine."""
    found = shutil.which(name, path=f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.fail(f"{name} is not installed. {remedy}", pytrace=False)
    return found
