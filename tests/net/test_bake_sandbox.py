"""A program of a hostile image, run as `image bake` runs it: it finds nothing of this computer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import attacks, inside_process, namespaces

CHECKOUT = Path(__file__).parents[2]
PROGRAM = Path(inside_process.__file__).with_name("escape.py")
PYTHON = f"/usr/bin/python3.{sys.version_info[1]}"
PROGRAMS = (PYTHON, "/bin/true", "/bin/sh", "/bin/id")
LIBRARY = f"/usr/lib/python3.{sys.version_info[1]}"
USER = 4242  # nobody's
pytestmark = [pytest.mark.net]


def put(root: Path, name: str) -> None:
    """Copy a program or library of this computer, with what it is linked to."""
    target = root / name.lstrip("/")
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(name, target)
    linked = subprocess.run(["ldd", name], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+)", linked):
        put(root, library)


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The tree of an image that was unpacked, beside a secret of this computer's, and the product:
    where an ordinary user gets at it."""
    place = Path(tempfile.mkdtemp(prefix="nodeagent-test-"))
    place.chmod(0o755)
    shutil.copytree(CHECKOUT / "nodeagent", place / "checkout/nodeagent")
    (place / "checkout/tests/support").mkdir(parents=True)
    shutil.copy(inside_process.__file__, place / "checkout/tests/support")
    (place / "secret").write_text("the fleet's root key")
    root = place / "root"
    for folder in ("usr/bin", "usr/lib", "usr/lib64", "etc", "tmp", "run", "dev", "proc", "root"):
        (root / folder).mkdir(parents=True)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    for name in PROGRAMS:
        put(root, name)
    unneeded = shutil.ignore_patterns("test", "__pycache__", "config-*", "idlelib", "*.pyc")
    shutil.copytree(LIBRARY, root / LIBRARY.lstrip("/"), ignore=unneeded,
                    ignore_dangling_symlinks=True, dirs_exist_ok=True)  # fmt: skip
    for module in (root / LIBRARY.lstrip("/") / "lib-dynload").glob("*.so"):
        put(root, f"{LIBRARY}/lib-dynload/{module.name}")
        linked = subprocess.run(["ldd", module], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"=> (/\S+)", linked):
            put(root, library)
    for name in ("etc/hosts", "etc/resolv.conf"):
        (root / name).write_text("")
    os.mknod(root / "root/null", 0o20666, os.makedev(1, 3))
    (root / "root/escape.py").write_text(attacks.standalone(PROGRAM))
    yield place
    shutil.rmtree(place)


def inside(image: Path, as_user: bool, as_containerd: bool, *argv: str) -> list[Any]:
    """Status, output and errors of a program of the image's."""
    enter = [PYTHON, "-P", "-m", "tests.support.inside_process", str(image / "root"),
             "yes" if as_containerd else "no", *argv]  # fmt: skip
    ran = subprocess.run(
        namespaces.apart(*enter, kinds=("mnt", "pid"), uid=USER if as_user else 0),
        capture_output=True, text=True, check=False, timeout=120, cwd=image,
        env={**os.environ, "PYTHONPATH": str(image / "checkout"), "TMPDIR": "/tmp"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    answer: list[Any] = json.loads(ran.stdout)
    return answer


def own(image: Path, uid: int) -> None:
    """Give the tree to a user: what a bake by that user has unpacked."""
    subprocess.run(["chown", "-hR", f"{uid}:{uid}", str(image)], check=True)


@pytest.mark.parametrize("as_containerd", [False, True], ids=["program", "containerd"])
@pytest.mark.parametrize("as_user", [False, True], ids=["root", "user"])
def test_nothing_leads_out(image: Path, as_user: bool, as_containerd: bool) -> None:
    own(image, USER if as_user else 0)
    before = [Path(name).read_bytes() for name in ("/etc/hosts", "/etc/resolv.conf")]
    secret = image / "secret"
    status, out, err = inside(
        image, as_user, as_containerd, PYTHON, "-S", "/root/escape.py", str(secret),
        secret.read_text(), str(os.getpid()),
    )  # fmt: skip
    assert status == 0, err
    said = json.loads(out.strip().splitlines()[-1])
    assert said["tried"] > 25 and said["found"] == {}
    assert before == [Path(name).read_bytes() for name in ("/etc/hosts", "/etc/resolv.conf")]
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "i-live-on" not in running.stdout


def test_what_packages_need_works(image: Path) -> None:
    """Files for other users, becoming one, a file with a mode: as dpkg and apt do it."""
    own(image, 0)
    work = ("import os; os.makedirs('/etc/x'); open('/etc/x/f','w').write('f');"
            "os.chown('/etc/x/f', 33, 33); os.chmod('/etc/x/f', 0o4755); os.setgid(33);"
            "os.setuid(33); open('/tmp/as-33','w'); print(os.getuid())")  # fmt: skip
    assert inside(image, False, False, PYTHON, "-S", "-c", work)[:2] == [0, "33\n"]
    made = (image / "root/etc/x/f").stat()
    assert (made.st_uid, made.st_mode & 0o7777) == (33, 0o4755)


@pytest.mark.parametrize("name", ["proc", "dev", "run", "tmp"])
def test_a_folder_that_is_a_link_is_refused(image: Path, name: str) -> None:
    """What is mounted there would be mounted where it leads."""
    own(image, 0)
    folder = image / "root" / name
    folder.rmdir()
    folder.symlink_to(image)
    try:
        with pytest.raises(AssertionError, match="of the image is a link"):
            inside(image, False, False, "/bin/true")
    finally:
        folder.unlink()
        folder.mkdir()
