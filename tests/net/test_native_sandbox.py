"""Tools of the user's own that a hostile image has taken over: run as the laptop's commands run
them, they find nothing of this computer but the image."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import attacks

CHECKOUT = Path(__file__).parents[2]
PROGRAM = CHECKOUT / "tests/support/hostile_tool.py"
PYTHON = f"/usr/bin/python3.{sys.version_info[1]}"
USER = 4242  # nobody's
# As the commands do it, in a process of the user's who typed one. argv: image, what may be done.
CALL = """\
import sys
from pathlib import Path
from nodeagent.imaging import tools
image = Path(sys.argv[1])
if sys.argv[2] == "bare":
    tools.without_sandbox = lambda: "a test"
given = {"writes": [image]} if sys.argv[2] == "write" else {"reads": [image]}
sys.stdout.buffer.write(tools.confined("mdir", "-i", str(image), **given))
"""
pytestmark = [pytest.mark.net]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """The product where an ordinary user gets at it, a secret, and an image beside it."""
    found = Path(tempfile.mkdtemp(prefix="nodeagent-test-")).resolve()
    found.chmod(0o755)
    shutil.copytree(CHECKOUT / "nodeagent", found / "checkout/nodeagent")
    (found / "home").mkdir()
    (found / "home/home.fleet").write_text("the fleet's root key")
    (found / "home/bin").mkdir()
    (found / "home/image.img").write_bytes(bytes(4096))
    yield found
    shutil.rmtree(found)


def attacked(place: Path, uid: int, how: str) -> dict[str, Any]:
    """What the tool tried and reached."""
    name = uuid.uuid4().hex
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix, \
         socket.socket(socket.AF_UNIX) as abstract:  # fmt: skip
        abstract.bind("\0" + name)
        abstract.listen()
        unix.bind(str(place / f"home/{name}"))
        unix.listen()
        (place / f"home/{name}").chmod(0o777)
        settings = {
            "secret": str(place / "home/home.fleet"), "content": "the fleet's root key",
            "port": server.getsockname()[1], "abstract": name, "socket": f"{place}/home/{name}",
            "outside": os.getpid(), "image": str(place / "home/image.img"), "alive": name,
        }  # fmt: skip
        tool = place / "home/bin/mdir"
        source = attacks.standalone(PROGRAM).replace('"@SETTINGS@"', repr(json.dumps(settings)))
        tool.write_text(f"#!{PYTHON} -I\n{source}")
        tool.chmod(0o755)
        subprocess.run(["chown", "-hR", f"{uid}:{uid}", str(place / "home")], check=True)
        ran = subprocess.run(
            ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", PYTHON, "-P", "-c",
             CALL, str(place / "home/image.img"), how],
            capture_output=True, text=True, check=False, timeout=120, cwd=place,
            env={"PATH": f"{place}/home/bin:/usr/bin:/bin", "MY_SECRET": "s",
                 "PYTHONPATH": f"{place}/checkout", "HOME": f"{place}/home"},
        )  # fmt: skip
        (place / f"home/{name}").unlink()
        (place / "home/planted").unlink(missing_ok=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    running = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(ran.stdout)
    for line in running.stdout.splitlines():
        if name in line:
            said["found"]["living_on"] = "it does"
            os.kill(int(line.split()[0]), signal.SIGKILL)
    return said


@pytest.mark.parametrize("uid", [0, USER], ids=["root", "user"])
def test_a_tool_that_was_taken_over_reaches_nothing(place: Path, uid: int) -> None:
    before = (place / "home/image.img").read_bytes()
    said = attacked(place, uid, "read")
    assert said["tried"] > 20 and said["found"] == {}
    assert (place / "home/image.img").read_bytes() == before
    assert {path.name for path in (place / "home").iterdir()} == {"bin", "home.fleet", "image.img"}


def test_of_the_image_it_writes_what_it_is_asked_to(place: Path) -> None:
    said = attacked(place, USER, "write")
    assert set(said["found"]) == {"writing_to_an_image_that_is_only_read"}


def test_the_attacks_are_real(place: Path) -> None:
    """Without the sandbox they get through."""
    found = attacked(place, USER, "bare")["found"]
    assert {"the_secret", "localhost", "an_abstract_socket", "a_socket_in_a_folder",
            "writing_beside_the_image", "settings_of_the_computer", "living_on",
            "what_lies_beside_the_image", "the_environment"} <= set(found)  # fmt: skip
