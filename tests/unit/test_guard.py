"""The guard itself: the unit tier cannot touch the machine, and nothing can swallow that."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.host.host import Host
from tests.conftest import TouchedTheMachine


def _connect() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.connect(("127.0.0.1", 9))


@pytest.mark.parametrize(
    "touch",
    [
        lambda: subprocess.run(["true"], check=True),
        lambda: os.system("true"),
        lambda: Host().run("true"),
        lambda: Host().write("/etc/nodeagent-test", b""),
        lambda: Path("/etc/nodeagent-test").write_text(""),
        lambda: Path("/etc/nodeagent-test").mkdir(),
        _connect,
        lambda: time.sleep(0.1),
        lambda: Host().clock.sleep(0.1),
    ],
)
def test_refused(touch: Callable[[], object]) -> None:
    with pytest.raises(TouchedTheMachine):
        touch()


def test_not_an_exception_that_code_catches() -> None:
    assert not issubclass(TouchedTheMachine, Exception)


@pytest.mark.processes
def test_marks_allow_it(tmp_path: Path) -> None:
    assert Host().run("true").status == 0
    Host(tmp_path).write("/etc/file", b"")
