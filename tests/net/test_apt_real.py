"""The real apt and dpkg against a mirror with faults: what they say is understood, what they
should do they do. The recordings of ``tests/unit/host/apt_messages.yaml`` come from here."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.agent import package_progress
from nodeagent.errors import Blocked, CommandFailed, FetchFailed
from nodeagent.host.apt import actions as apt
from nodeagent.host.apt import locks
from nodeagent.host.apt.actions import Apt, AptInstall, AptUpdate
from nodeagent.host.apt.dpkg import STATUS
from nodeagent.host.facts import Facts
from nodeagent.steps.packages import CONFIGURE
from tests.net.apt_mirror import DAY, AptHost, Mirror, mirror

OURS = "/etc/apt/sources.list.d/nodeagent-kubernetes.sources"
KUBERNETES = {"kubelet": "1.37.2-1.1", "kubeadm": "1.37.2-1.1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror with good and bad repositories, and their keys in ``keys``."""
    folder = tmp_path_factory.mktemp("mirror")
    now = time.time()
    with mirror(folder) as made:
        (folder / "keys").mkdir()
        for name, life, at in (("good", "0", None), ("old", "9d", now - 99 * DAY)):
            (folder / "keys" / f"{name}.gpg").write_bytes(made.key(name, life, at))
        made.repository("good", KUBERNETES)
        made.repository("large", KUBERNETES, fields=f"Section: {os.urandom(5000).hex()}\n")
        made.repository("newer", {"kubelet": "1.37.3-1.1"})
        made.repository("expired", {}, valid_until=now - 3 * DAY)
        made.repository("future", {}, date=now + 400 * DAY)
        made.repository("oldkey", {}, "old", signed=now - 95 * DAY)
        made.repository("portal", {}).joinpath("InRelease").write_text("<html>log in</html>\n")
        packages = made.repository("mangled", KUBERNETES) / "Packages"
        packages.write_text(packages.read_text().replace("empty", "other"))
        for file in made.repository("mangled-deb", KUBERNETES).glob("*.deb"):
            file.write_bytes(file.read_bytes()[:-4] + b"____")
        for file in made.repository("lacking", KUBERNETES).glob("*.deb"):
            file.unlink()
        made.repository("distro", {"containerd": "1.7.24-1", "iptables": "1.8.11-2"})
        made.repository("docker", {"containerd.io": "2.3.7-1"}, fields="Conflicts: containerd\n")
        yield made


@pytest.fixture
def machine(tmp_path: Path, served: Mirror) -> AptHost:
    """A machine with nothing installed, and the keys of the mirror."""
    made = AptHost(tmp_path)
    for file in served.folder.with_name("keys").iterdir():
        made.write(f"/etc/apt/keyrings/{file.name}", file.read_bytes())
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second tries, and a second for each answer."""
    swap = {"Acquire::http::Timeout=30": "Acquire::http::Timeout=1",
            "Acquire::Retries=3": "Acquire::Retries=0",
            "DPkg::Lock::Timeout=60": "DPkg::Lock::Timeout=1"}  # fmt: skip
    for name in ("UPDATE", "INSTALL"):
        words = tuple(swap.get(word, word) for word in getattr(apt, name))
        monkeypatch.setattr(apt, name, words)


def use(machine: AptHost, **sources: str) -> None:
    """Write source files; ``kubernetes`` is the agent's own."""
    for name, text in sources.items():
        path = OURS if name == "kubernetes" else f"/etc/apt/sources.list.d/{name}.sources"
        machine.write(path, text.encode())


def version(machine: AptHost, name: str) -> str | None:
    """What dpkg says is installed."""
    return Facts(machine).packages.version(name)


@pytest.mark.parametrize(
    ("repository", "key", "reason"),
    [
        ("nowhere", "good", "There is no package repository at http"),
        ("503", "good", "overloaded or being repaired"),
        ("403", "good", "is refused (403)"),
        ("407", "good", "without a password"),
        ("mute", "good", "no connection, or it broke off"),
        ("cut", "good", "no connection, or it broke off"),
        ("http://127.0.0.1:9", "good", "no connection, or it broke off"),
        ("http://mirror.invalid", "good", "name server does not know the host of http://mirror"),
        ("expired", "good", "has run out"),
        ("future", "good", "the clock is slow"),
        ("good", "old", "signed with a key that is not on this board"),
        ("good", "none", "missing"),
        ("portal", "good", "a login page or a proxy"),
        ("mangled", "good", "is not the file that its repository announces"),
    ],
)
def test_each_fault_of_a_mirror_is_told_in_plain_words(
    repository: str, key: str, reason: str, served: Mirror, machine: AptHost
) -> None:
    use(machine, kubernetes=served.source(repository, key))
    with pytest.raises(FetchFailed) as caught:
        AptUpdate((OURS,)).do(machine)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("another key", "signed with a key that is not on this board"),
        ("no key file", "missing"),
        ("altered", "The signature of http"),
        ("unsigned", "is not signed, or its signature could not be had"),
        ("gone", "There is no package repository at http"),
        ("portal", "a login page or a proxy"),
        ("from the future", "the clock is slow"),
    ],
)
def test_faults_of_a_mirror_that_was_well_before(
    change: str, reason: str, served: Mirror, machine: AptHost
) -> None:
    """apt says it in other words where it has lists from before."""
    name = f"before-{change.replace(' ', '-')}"
    inline = served.repository(name, KUBERNETES) / "InRelease"
    os.utime(inline, (time.time() - DAY,) * 2)  # what comes is newer
    use(machine, kubernetes=served.source(name))
    AptUpdate((OURS,)).do(machine)
    signed = inline.read_text()
    body = signed.partition("\n\n")[2].partition("-----BEGIN")[0].encode()
    if change == "another key":
        served.key("other")
        signed = served.gpg("--clearsign", "-u", "other", stdin=body).decode()
    elif change == "from the future":
        body = re.sub(rb"Date: .*", b"Date: Fri, 01 Jan 2100 00:00:00 UTC", body)
        future = time.time() + 40 * DAY
        signed = served.gpg("--clearsign", "-u", "good", stdin=body, at=future).decode()
    elif change == "altered":
        signed = signed.replace("Origin: test", "Origin: none")
    elif change == "portal":
        signed = "<html>log in</html>\n"
    elif change == "no key file":
        machine.path("/etc/apt/keyrings/good.gpg").unlink()
    inline.write_text(signed)
    if change == "gone":
        inline.unlink()
    elif change == "unsigned":
        inline.unlink()
        inline.with_name("Release").write_bytes(body)
    with pytest.raises(FetchFailed, match=reason):
        AptUpdate((OURS,)).do(machine)


def test_an_expired_key(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("oldkey", "old"))
    if os.path.exists("/usr/bin/sqv"):
        # apt 3 asks whether the key was good when it signed.
        AptUpdate((OURS,)).do(machine)
        return
    with pytest.raises(FetchFailed, match="has expired on this board"):
        AptUpdate((OURS,)).do(machine)


@pytest.mark.parametrize(
    ("repository", "reason"),
    [
        ("mangled-deb", "is not the file that its repository announces"),
        ("lacking", r"is not there \(404\)"),
    ],
)
def test_packages_that_are_not_as_announced(
    repository: str, reason: str, served: Mirror, machine: AptHost
) -> None:
    use(machine, kubernetes=served.source(repository))
    AptUpdate((OURS,)).do(machine)
    with pytest.raises(FetchFailed, match=reason):
        AptInstall(("kubelet=1.37.2-*",)).do(machine)
    assert version(machine, "kubelet") is None


@pytest.mark.parametrize("folder", ["/var/lib/apt/lists", "/var/cache/apt/archives"])
def test_a_full_card(folder: str, served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("large"))
    machine.full = "" if "archives" in folder else folder
    if machine.full == "":
        AptUpdate((OURS,)).do(machine)
        machine.full = folder
    with pytest.raises(CommandFailed, match="The card is full"):
        AptUpdate((OURS,)).do(machine)
        AptInstall(("kubelet",)).do(machine)


def test_apt_says_how_far_an_installation_is(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"))
    AptUpdate((OURS,)).do(machine)
    AptInstall(("kubelet=1.37.2-*", "kubeadm=1.37.2-*")).do(machine)
    shown = package_progress.parse(machine.text(apt.PROGRESS) or "")
    assert (shown["done"], shown["total"]) == (2, 2) and shown["text"].startswith("Installed kube")


def test_a_stale_source_of_somebody_else_stops_nothing(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"), ppa=served.source("nowhere"))
    AptUpdate((OURS,)).do(machine)
    AptInstall(("kubelet=1.37.2-*", "kubeadm=1.37.2-*")).do(machine)
    assert version(machine, "kubelet") == version(machine, "kubeadm") == "1.37.2"


def test_lists_of_others_outlive_an_update_of_ours(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"), distro=served.source("distro"),
        ppa=served.source("nowhere"))  # fmt: skip
    AptUpdate((OURS,)).do(machine)
    AptInstall(("kubelet=1.37.2-*", "iptables")).do(machine)
    assert version(machine, "iptables") == "1.8.11"


def test_a_missing_package_is_explained_by_the_source_that_failed(
    served: Mirror, machine: AptHost
) -> None:
    use(machine, kubernetes=served.source("good"), distro=served.source("503"))
    AptUpdate((OURS,)).do(machine)
    with pytest.raises(FetchFailed, match="overloaded"):
        AptInstall(("iptables",)).do(machine)


def test_a_source_that_apt_cannot_read_is_named(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"))
    machine.write("/etc/apt/sources.list.d/odd.list", b"deb nonsense\n")
    AptUpdate((OURS,)).do(machine)
    with pytest.raises(CommandFailed, match=r"apt cannot read /etc/apt/sources\.list\.d/odd\.list"):
        AptInstall(("kubelet",)).do(machine)


def test_one_repository_with_two_keys_is_named(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"), again=served.source("good", "old"))
    AptUpdate((OURS,)).do(machine)
    with pytest.raises(CommandFailed, match=f"Two source files name {served.url}/good"):
        AptInstall(("kubelet",)).do(machine)


def test_a_held_kubelet_stays_in_a_full_upgrade(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"))
    AptUpdate((OURS,)).do(machine)
    AptInstall(("kubelet=1.37.2-*",)).do(machine)
    Apt(("dpkg", "--set-selections"), stdin="kubelet hold\n").do(machine)
    use(machine, kubernetes=served.source("newer"))
    AptUpdate((OURS,)).do(machine)
    Apt(("apt-get", "full-upgrade", "-q", "-y")).do(machine)
    assert version(machine, "kubelet") == "1.37.2"
    AptInstall(("kubelet=1.37.3-*",)).do(machine)  # but the agent may, when it is asked to
    assert version(machine, "kubelet") == "1.37.3"


def test_no_package_is_taken_away(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("docker"), distro=served.source("distro"))
    AptUpdate((OURS,)).do(machine)
    with pytest.raises(CommandFailed, match="has containerd in a version 2"):
        AptInstall(("containerd=2.*",)).do(machine)
    AptInstall(("containerd",)).do(machine)
    with pytest.raises(CommandFailed, match="removes none that somebody chose"):
        AptInstall(("containerd.io=2.*",)).do(machine)
    assert version(machine, "containerd") == "1.7.24"


def test_an_interrupted_dpkg_is_repaired(served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"))
    AptUpdate((OURS,)).do(machine)
    AptInstall(("kubelet=1.37.2-*", "kubeadm=1.37.2-*")).do(machine)
    status = (machine.text(STATUS) or "").replace("ok installed", "ok unpacked", 1)
    machine.write(STATUS, status.encode())
    assert Facts(machine).packages.interrupted
    Apt(CONFIGURE, accept=(0, 1)).do(machine)
    assert not Facts(machine).packages.interrupted


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("status", "it cannot read /var/lib/dpkg/status"),
        ("updates/0000", "What dpkg noted last"),
        ("available", "list of available packages"),
        ("triggers/Unincorp", "work to be done later"),
        ("arch", "it cannot read /var/lib/dpkg/arch"),
    ],
)
def test_what_a_power_cut_left_of_dpkgs_files(
    file: str, reason: str, served: Mirror, machine: AptHost
) -> None:
    """It is told, and what the remedy says to run repairs it."""
    use(machine, kubernetes=served.source("good"))
    AptUpdate((OURS,)).do(machine)
    AptInstall(("kubelet=1.37.2-*",)).do(machine)
    hold = Apt(("dpkg", "--set-selections"), stdin="kubelet hold\n")
    hold.do(machine)
    machine.path(f"/var/lib/dpkg/{file}").write_bytes(bytes(400))
    with pytest.raises(CommandFailed, match=reason) as caught:
        hold.do(machine)
    *_, remedy = re.findall(r"`sudo ([^`]+)`", caught.value.remedy)
    machine.call(*remedy.split())
    hold.do(machine)
    assert version(machine, "kubelet") == "1.37.2"


@pytest.mark.parametrize("lock", locks.LOCKS)
def test_who_holds_a_lock_is_named(lock: str, served: Mirror, machine: AptHost) -> None:
    use(machine, kubernetes=served.source("good"))
    AptUpdate((OURS,)).do(machine)
    actions: list[Apt | AptUpdate | AptInstall] = [AptInstall(("kubelet",))]
    if "dpkg" in lock:
        actions = [*actions, Apt(CONFIGURE), Apt(("dpkg", "--set-selections"), stdin="")]
    elif "lists" in lock:
        actions = [AptUpdate((OURS,))]
    assert locks.holder(machine) is None
    with open(machine.path(lock), "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        found = locks.holder(machine)
        assert (
            found is not None and found.pid == os.getpid() and found.command in str(found.blocked())
        )
        for action in actions:
            with pytest.raises(Blocked, match=rf"process {os.getpid()}\)"):
                action.do(machine)
    assert locks.holder(machine) is None
