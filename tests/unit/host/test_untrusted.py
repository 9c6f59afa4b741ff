"""What another user puts under a name that root reads or removes: nothing of it leads anywhere."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.host import untrusted
from nodeagent.host.host import Host

STRANGER = 61234  # a user id that nobody has
FOLDER, NAME = "/run/theirs", "/run/theirs/said.json"
LIMIT = 1000

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    """A machine with a folder of another user's, and a secret of root's."""
    host = Host(tmp_path)
    host.make_folder(FOLDER)
    host.write("/etc/secret", b"root's own")
    return host


def link(place: Path) -> None:
    """Somebody else's file."""
    place.symlink_to("/etc/secret")


def pipe(place: Path) -> None:
    """Whoever opens it waits for a writer, for good."""
    os.mkfifo(place)


def endless(place: Path) -> None:
    """It has no end."""
    place.symlink_to("/dev/zero")


def bound_socket(place: Path) -> None:
    """It cannot be opened."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))


def second_name(place: Path) -> None:
    """One file under two names: the other one may be root's."""
    os.link(place.parents[2] / "etc" / "secret", place)


def folder(place: Path) -> None:
    """No file at all."""
    place.mkdir()


def of_nobody_known(place: Path) -> None:
    """A third user's, whom the folder's owner let write there."""
    place.write_bytes(b"theirs")
    os.chown(place, STRANGER, STRANGER)


ODD: dict[str, Callable[[Path], None]] = {
    one.__name__: one for one in (link, pipe, endless, bound_socket, second_name, folder)
}


@pytest.mark.network  # one of them is a socket
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_only_a_file_of_the_folders_owner_is_read(
    machine: Host, odd: Callable[[Path], None]
) -> None:
    place = machine.root / NAME.lstrip("/")
    odd(place)
    with pytest.raises(OSError):
        untrusted.read(machine, NAME, LIMIT)


@root_only
def test_a_third_users_file_is_not_read(machine: Host) -> None:
    of_nobody_known(machine.root / NAME.lstrip("/"))
    with pytest.raises(OSError, match="whom its folder belongs to"):
        untrusted.read(machine, NAME, LIMIT)


@root_only
@pytest.mark.parametrize("owner", [0, STRANGER])
def test_what_its_owner_or_root_wrote_is_read(machine: Host, owner: int) -> None:
    place = machine.root / NAME.lstrip("/")
    place.write_bytes(b"x" * 2 * LIMIT)
    for path in (place, place.parent):
        os.chown(path, STRANGER, STRANGER)
    os.chown(place, owner, owner)
    assert untrusted.read(machine, NAME, LIMIT) == b"x" * LIMIT


def test_what_is_not_there_is_nothing(machine: Host) -> None:
    assert untrusted.read(machine, NAME, LIMIT) is None
    assert untrusted.read(machine, "/run/nowhere/said.json", LIMIT) is None
    assert untrusted.names(machine, "/run/nowhere") == []
    untrusted.shred(machine, "/run/nowhere", "key")


@root_only
@pytest.mark.parametrize("inner", ["theirs", "said.json"])
def test_a_link_for_a_folder_on_the_way_is_not_followed(machine: Host, inner: str) -> None:
    """Neither by who reads nor by who writes: root's files below the other end stay as they are."""
    theirs = machine.root / "home/pi"
    theirs.mkdir(parents=True)
    (theirs / ".kube").symlink_to("/etc")
    for path in (theirs, theirs / ".kube"):
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    name = "/home/pi/.kube/secret"
    works: tuple[Callable[[], object], ...] = (
        lambda: untrusted.read(machine, name, LIMIT),
        lambda: machine.read(name),
        lambda: machine.write(name, b"x"),
        lambda: machine.remove(name),
        lambda: machine.give(name, (STRANGER, STRANGER)),
        lambda: machine.make_folder("/home/pi/.kube/new"),
    )
    for work in works:
        with pytest.raises(OSError):
            work()
    assert untrusted.names(machine, "/home/pi/.kube") == []
    secret = machine.root / "etc/secret"
    assert (secret.read_bytes(), secret.stat().st_uid) == (b"root's own", 0)


@root_only
def test_a_link_of_root_in_a_folder_of_root_is_followed(machine: Host) -> None:
    (machine.root / "var").mkdir()
    (machine.root / "var/run").symlink_to("/run")
    machine.write(NAME, b"said")
    assert untrusted.read(machine, "/var/run/theirs/said.json", LIMIT) == b"said"
    os.chown(machine.root / "var/run", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(OSError, match="another user"):
        machine.path("/var/run/theirs/said.json")


@pytest.mark.network
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_is_overwritten_is_theirs_and_all_of_it_goes(
    machine: Host, odd: Callable[[Path], None]
) -> None:
    place = machine.root / NAME.lstrip("/")
    odd(place)
    if place.is_dir():
        with pytest.raises(OSError):
            untrusted.shred(machine, FOLDER, place.name)
        return
    untrusted.shred(machine, FOLDER, place.name)
    assert not os.path.lexists(place)
    assert machine.read("/etc/secret") == b"root's own"


def test_a_key_is_overwritten_before_it_is_freed(machine: Host) -> None:
    place = machine.root / NAME.lstrip("/")
    place.write_bytes(b"a key")
    with place.open("rb") as held:
        untrusted.shred(machine, FOLDER, place.name)
        assert held.read() == bytes(5)
    assert not place.exists()


def test_a_pipe_in_place_of_any_file_keeps_nobody_waiting(machine: Host) -> None:
    pipe(machine.root / NAME.lstrip("/"))
    with pytest.raises(OSError, match=r"no regular file.*said\.json"):
        machine.read(NAME)


@root_only
def test_a_name_that_changes_all_the_time_never_leads_out(machine: Host) -> None:
    """The owner swaps the file for a link and back as fast as it can."""
    place, spare = machine.root / NAME.lstrip("/"), machine.root / "run/theirs/spare"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            spare.write_bytes(b"said")
            spare.replace(place)
            spare.symlink_to("/etc/secret")
            spare.replace(place)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(500):
            try:
                assert untrusted.read(machine, NAME, LIMIT) in (b"said", None)
            except OSError:
                continue
    finally:
        stop.set()
        swapping.join()


class TestReadableFolder:
    """A folder of root's that one group reads."""

    def test_it_is_made_and_stays(self, machine: Host) -> None:
        machine.make_readable_folder("/run/nodeagent/broker", None)
        machine.write("/run/nodeagent/broker/key", b"x")
        machine.make_readable_folder("/run/nodeagent/broker", None)
        assert machine.read("/run/nodeagent/broker/key") == b"x"

    @root_only
    def test_the_group_reads_it_and_root_alone_writes(self, machine: Host) -> None:
        machine.make_readable_folder("/run/nodeagent/broker", STRANGER)
        found = (machine.root / "run/nodeagent/broker").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, STRANGER, 0o750)

    @root_only
    @pytest.mark.parametrize("how", ["owned", "writable", "link", "file"])
    def test_what_somebody_else_may_write_is_made_anew(self, machine: Host, how: str) -> None:
        """As 0.2.0 left it: a folder of the network process's, with whatever is in it."""
        there = machine.root / "run/nodeagent/endpoint"
        there.parent.mkdir()
        if how == "link":
            there.symlink_to("/etc")
        elif how == "file":
            there.write_bytes(b"")
        else:
            there.mkdir(mode=0o777)
            (there / "cluster.json").symlink_to("/etc/secret")
            (there / "deep").mkdir()
            os.chown(there, STRANGER if how == "owned" else 0, STRANGER)
            there.chmod(0o700 if how == "owned" else 0o777)
        machine.make_readable_folder("/run/nodeagent/endpoint", STRANGER)
        assert list(there.iterdir()) == [] and not there.is_symlink()
        machine.write("/run/nodeagent/endpoint/cluster.json", b"{}")
        assert machine.read("/etc/secret") == b"root's own"
