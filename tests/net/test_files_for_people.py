"""Files that root makes for the person who called sudo are made as that person."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.host import durable

USER = 4242  # nobody's


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody gets to."""
    made = Path(tempfile.mkdtemp(prefix="nodeagent-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_a_file_for_a_person_is_made_as_that_person(place: Path) -> None:
    mine, roots = place / "mine", place / "roots"
    mine.mkdir()
    roots.mkdir(mode=0o755)
    os.chown(mine, USER, USER)
    durable.create(mine / "a", b"x", (USER, USER))
    made = (mine / "a").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (USER, USER, 0o600)
    (mine / "out").symlink_to(roots)
    for there in (mine / "out/b", roots / "b"):  # a link of theirs, and root's folder in /tmp
        with pytest.raises(PermissionError):
            durable.create(there, b"x", (USER, USER))
    assert list(roots.iterdir()) == [] and os.geteuid() == 0 and os.getegid() == 0


def test_a_link_under_the_next_name_is_left_alone(place: Path) -> None:
    """In /tmp anybody may put one there."""
    place.chmod(0o1777)
    (place / "shadow").write_text("root's")
    (place / "report").symlink_to(place / "shadow")
    (place / "dangling").symlink_to(place / "not-there")
    for name in ("report", "dangling"):
        with pytest.raises(FileExistsError):
            durable.create(place / name, b"x", (USER, USER))
    assert (place / "shadow").read_text() == "root's" and not (place / "not-there").exists()
