"""`nodeagent image bake` but for the work inside namespaces, which the lab does for real."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nodeagent import __version__, errors
from nodeagent.cli.main import main
from nodeagent.config import settings as config
from nodeagent.errors import FetchFailed, ImageError
from nodeagent.host.apt import dpkg
from nodeagent.host.host import Host
from nodeagent.imaging import bake, build, rootfs
from nodeagent.imaging.customise import Custom
from nodeagent.imaging.progress import Progress, Tell
from nodeagent.trust import fleet_file
from tests.support.machine import put
from tests.unit.imaging import layouts
from tests.unit.imaging.conftest import DEB

pytestmark = pytest.mark.processes


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    path = tmp_path / f"nodeagent_{__version__}_all.deb"
    path.write_bytes(DEB)
    return path


class Workshop:
    """A double of the workshop: instead of filling the root file system it makes one from a small
    tree; or fails."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.jobs: list[build.Job] = []
        self.settings: list[config.Settings] = []
        self.fails: Exception | None = None

    def __call__(self, job: build.Job, tell: Tell) -> None:
        self.jobs.append(build.unpack(build.pack(job)))
        self.settings.append(config.load(Host(job.settings)).settings)
        tell(Progress("filling", 1, 2))
        if self.fails:
            job.target.write_bytes(b"half")
            raise self.fails
        rootfs.build(job.source, rootfs.find(job.source), self.tree, job.target)
        tell(Progress("filling", 2, 2))


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    tree = tmp_path / "inside"
    tree.mkdir()
    (tree / "hello").write_text("baked\n")
    made = Workshop(tree)
    monkeypatch.setattr(bake, "_work", made)
    return made


def run(*argv: object) -> Any:
    """The command line."""
    return CliRunner().invoke(main, ["image", "bake", *map(str, argv)])


def left(folder: Path) -> set[str]:
    """What lies there besides what the test put there."""
    return {path.name for path in folder.iterdir()}


def test_a_fleets_image(tmp_path: Path, fleet: Path, deb: Path, double: Workshop) -> None:
    stock = layouts.image("trixie", tmp_path)
    before, there = stock.read_bytes(), left(tmp_path)
    settings = tmp_path / "mine.yaml"
    settings.write_text("kubernetes: {image_repository: mirror.example:5000}\n")
    done = run(stock, "--out", tmp_path / "o.img", "--fleet", fleet, "--deb", deb, "--with-images",
               "--expected-nodes", 3, "--hostname", "kitchen", "--settings", settings,
               "--log", tmp_path / "log.jsonl")  # fmt: skip
    assert done.exit_code == 0, done.output
    files = layouts.files(tmp_path / "o.img")
    assert fleet_file.parse(files[fleet_file.NAME]).control_plane_key
    assert b"expected_nodes: 3\n" in files["nodeagent.yaml"]
    assert b"node_name: kitchen\n" in files["nodeagent.yaml"]
    assert b"mirror.example:5000" in files["nodeagent.yaml"]
    assert b"cgroup_enable=memory" in files["cmdline.txt"]
    # The agent is inside: nothing installs it.
    assert "vendor-data" not in files and not any(name.endswith(".deb") for name in files)
    (job,) = double.jobs
    assert job.images and job.deb.name == deb.name
    assert double.settings[0].kubernetes.image_repository == "mirror.example:5000"
    assert (tmp_path / "o.img").stat().st_mode & 0o777 == 0o600
    assert left(tmp_path) == there | {"mine.yaml", "o.img", "log.jsonl"}
    assert stock.read_bytes() == before
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(one.get("stage"), one.get("done")) for one in log] == [
        ("filling", 1), ("filling", 2), ("finishing o.img", 0), (None, None)
    ]  # fmt: skip
    assert log[-1]["finished"] is True and all(one["time"] for one in log)


def test_two_images_of_a_fleet(tmp_path: Path, fleet: Path, deb: Path, double: Workshop) -> None:
    stock = layouts.image("noble", tmp_path)
    done = run(stock, "--out", tmp_path / "o.img", "--fleet", fleet, "--deb", deb, "--split")
    assert done.exit_code == 0, done.output
    leader = layouts.files(tmp_path / "o-control-plane.img")
    worker = layouts.files(tmp_path / "o-worker.img")
    assert fleet_file.parse(leader[fleet_file.NAME]).control_plane_key
    assert fleet_file.parse(worker[fleet_file.NAME]).control_plane_key is None
    assert b"role: worker\n" in worker["nodeagent.yaml"] and "nodeagent.yaml" not in leader
    # Not even in free blocks is there what would let a worker's card lead.
    issuer = fleet_file.parse(leader[fleet_file.NAME]).control_plane_key
    assert issuer is not None
    assert issuer.encode() not in (tmp_path / "o-worker.img").read_bytes()
    assert len(double.jobs) == 1 and not (tmp_path / "o.img").exists()


def test_an_image_of_no_fleet_from_xz(tmp_path: Path, deb: Path, double: Workshop) -> None:
    stock = layouts.image("trixie", tmp_path)
    packed = tmp_path / "packed.img.xz"
    packed.write_bytes(lzma.compress(stock.read_bytes(), preset=0))
    done = run(packed, "--out", tmp_path / "o.img", "--deb", deb)
    assert done.exit_code == 0, done.output
    assert layouts.files(tmp_path / "o.img") == layouts.files(stock)


def _existing(where: Path, stock: Path) -> list[str]:
    (where / "o.img").write_bytes(b"precious")
    return []


def _cut_short(where: Path, stock: Path) -> list[str]:
    with stock.open("r+b") as file:
        file.truncate(20 * 1024 * 1024)
    return []


def _xz_cut_short(where: Path, stock: Path) -> list[str]:
    stock.write_bytes(lzma.compress(stock.read_bytes(), preset=0)[:-900])
    return []


def _unknown(where: Path, stock: Path) -> list[str]:
    stock.write_bytes(bytes(10**6))
    return []


def _wrong_architecture(where: Path, stock: Path) -> list[str]:
    offset = layouts.BOOT_START
    kernel = where / "kernel8.img"
    kernel.write_bytes(layouts.KERNEL_32)
    layouts.call("mcopy", "-o", "-i", f"{stock}@@{offset}", str(kernel), "::")
    kernel.unlink()
    return []


def _baked_before(where: Path, stock: Path) -> list[str]:
    file = where / fleet_file.NAME
    file.write_bytes(fleet_file.make("other")[1])
    layouts.call("mcopy", "-i", f"{stock}@@{layouts.BOOT_START}", str(file), "::")
    file.unlink()
    return []


def _other_deb(where: Path, stock: Path) -> list[str]:
    other = where / "nodeagent_0.1.0_all.deb"
    other.write_bytes(DEB[:-10])
    return ["--deb", str(other)]


def _half_seeded(where: Path, stock: Path) -> list[str]:
    stock.with_name(stock.name + ".nodeagent-undo").write_bytes(b"old blocks")
    return []


def _wrong_settings(where: Path, stock: Path) -> list[str]:
    (where / "wrong.yaml").write_text("rolle: auto\n")
    return ["--settings", str(where / "wrong.yaml")]


BAD = [
    (_existing, "is already there."),
    (_cut_short, "is cut short: its partitions end at"),
    (_xz_cut_short, "is damaged or cut short"),
    (_unknown, "is no image of a card"),
    (_wrong_architecture, "This is a 32-bit system"),
    (_baked_before, "was seeded or baked before"),
    (_other_deb, "it is cut short"),
    (_half_seeded, "left"),
    (_wrong_settings, "unknown key `rolle`"),
    (lambda where, stock: ["--role", "worker"], "An image of no fleet has no role"),
    (lambda where, stock: ["--split"], "An image of no fleet"),
    (lambda where, stock: ["--wifi", "home"], "Wi-Fi needs the country"),
]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("Package: dpkg\nStatus: install ok installed\nArchitecture: armhf\n", "is for armhf"),
        ("\0\0", "dpkg's database is damaged"),
        (None, "is no Debian"),
    ],
)
def test_a_system_that_cannot_be_baked_needs_a_fresh_image(
    status: str | None, told: str, tmp_path: Path
) -> None:
    """Of all that a running board would be told to do about it."""
    system = "ID=debian\n" if status else "ID=alpine\n"
    put(tmp_path, {dpkg.STATUS: status, "/etc/os-release": system})
    with pytest.raises(ImageError) as caught:
        build._check(Host(tmp_path))
    assert told in caught.value.reason and caught.value.remedy == rootfs.FRESH


@pytest.mark.parametrize(("spoil", "reason"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_bad_input_leaves_nothing(
    tmp_path: Path, deb: Path, double: Workshop, spoil: Any, reason: str
) -> None:
    stock = layouts.image("trixie", tmp_path)
    options = spoil(tmp_path, stock)
    before, there = stock.read_bytes(), left(tmp_path)
    done = CliRunner().invoke(
        main,
        [
            "image",
            "bake",
            str(stock),
            "--out",
            str(tmp_path / "o.img"),
            "--deb",
            str(deb),
            *options,
        ],
        input="password\n",
    )
    assert done.exit_code != 0 and reason in done.output, done.output
    assert "Traceback" not in done.output and not double.jobs
    assert left(tmp_path) == there and stock.read_bytes() == before


def test_no_room(tmp_path: Path, deb: Path, double: Workshop, monkeypatch: Any) -> None:
    stock = layouts.image("trixie", tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    done = run(stock, "--out", tmp_path / "o.img", "--deb", deb)
    assert "has no room: about 2.0 GiB are needed" in done.output
    assert not (tmp_path / "o.img").exists() and not double.jobs


def test_a_missing_tool(tmp_path: Path, deb: Path, double: Workshop, monkeypatch: Any) -> None:
    stock = layouts.image("trixie", tmp_path)
    found = shutil.which

    def which(name: str, *args: Any, **more: Any) -> str | None:
        return None if name == "fuse2fs" else found(name, *args, **more)

    monkeypatch.setattr(shutil, "which", which)
    done = run(stock, "--out", tmp_path / "o.img", "--deb", deb)
    assert "fuse2fs is not installed" in done.output
    assert "sudo apt-get install fuse2fs" in done.output and done.exit_code == 69


@pytest.mark.parametrize("error", [
    FetchFailed("http://m did not answer.", "Check the network."),
    ImageError("It is odd.", "Take another."),
    OSError(28, "No space left on device", "/x"),
    KeyboardInterrupt(),
])  # fmt: skip
def test_failing_work_leaves_nothing(
    tmp_path: Path, fleet: Path, deb: Path, double: Workshop, error: Exception
) -> None:
    stock = layouts.image("trixie", tmp_path)
    there, double.fails = left(tmp_path), error
    done = run(stock, "--out", tmp_path / "o.img", "--fleet", fleet, "--deb", deb,
               "--log", tmp_path / "log.jsonl")  # fmt: skip
    assert done.exit_code != 0
    assert left(tmp_path) == there | {"log.jsonl"}
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert "failed" in last and "finished" not in last


@pytest.mark.parametrize("kind", [
    kind for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.NodeAgentError)
])  # fmt: skip
def test_an_error_of_the_workshop_keeps_its_code(kind: type[errors.NodeAgentError]) -> None:
    error = bake._error({"failed": kind.code, "reason": "It is odd.", "remedy": "Take another."})
    assert (error.code, error.exit_code) == (kind.code, kind.exit_code)
    assert (error.reason, error.remedy) == ("It is odd.", "Take another.")


def test_what_the_workshop_says_arrives(tmp_path: Path, deb: Path) -> None:
    """The real one, in real namespaces, on an image that it cannot use."""
    stock = layouts.image("trixie", tmp_path)
    offset = rootfs.find(stock).offset
    with stock.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(4096))
    (tmp_path / "settings").mkdir()
    job = build.Job(stock, tmp_path / "o", tmp_path, deb, tmp_path / "settings")
    with pytest.raises(ImageError) as caught:
        bake._work(job, lambda told: None)
    assert "is not ext4" in caught.value.reason and caught.value.code == "E600"


def test_interrupted_work_ends(tmp_path: Path, deb: Path) -> None:
    """The real workshop, stopped while it unpacks: nobody works on, nothing is mounted."""
    stock, tree = layouts.image("trixie", tmp_path), tmp_path / "inside"
    (tree / "var/lib/dpkg").mkdir(parents=True)
    status = "Package: dpkg\nStatus: install ok installed\nArchitecture: arm64\nVersion: 1\n"
    (tree / "var/lib/dpkg/status").write_text(status)
    rootfs.build(stock, rootfs.find(stock), tree, tmp_path / "system.img")
    (tmp_path / "settings").mkdir()
    job = build.Job(tmp_path / "system.img", tmp_path / "o", tmp_path, deb, tmp_path / "settings")
    told: list[Progress] = []

    def tell(progress: Progress) -> None:
        told.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bake._work(job, tell)
    assert told[0].stage == "unpacking the root file system"
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in running if str(tmp_path).encode() in line]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_a_terminated_bake_leaves_nothing(
    tmp_path: Path, deb: Path, double: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = layouts.image("trixie", tmp_path)
    there, before = left(tmp_path), signal.getsignal(signal.SIGTERM)

    def killed(job: build.Job, tell: Tell) -> None:
        job.target.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(bake, "_work", killed)
    done = run(stock, "--out", tmp_path / "o.img", "--deb", deb)
    signal.signal(signal.SIGTERM, before)
    assert done.exit_code != 0 and left(tmp_path) == there


def test_a_job_arrives_as_it_was_sent(tmp_path: Path) -> None:
    custom = Custom("ssh-ed25519 AAAA me", "Ö", "ab" * 32, "DE")
    job = build.Job(tmp_path, tmp_path / "t", tmp_path, tmp_path / "d", tmp_path, True, custom)
    assert build.unpack(build.pack(job)) == job


def test_every_child_python_is_isolated() -> None:
    """Else it runs a `nodeagent` or `requests` of the folder that somebody stands in."""
    package = Path(bake.__file__).parents[1]
    calls = [
        line.strip() for path in sorted(package.rglob("*.py"))
        for line in path.read_text().splitlines() if "sys.executable" in line
    ]  # fmt: skip
    assert len(calls) >= 2 and all('sys.executable, "-P", "-m"' in line for line in calls)


def test_a_module_of_this_folder_is_not_run(
    tmp_path: Path, deb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nodeagent", "requests", "json", "yaml"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("open('run-by-root', 'w')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings").mkdir()
    stock = layouts.image("trixie", tmp_path)
    job = build.Job(stock, tmp_path / "o", tmp_path, deb, tmp_path / "settings")
    with pytest.raises(errors.NodeAgentError):
        bake._work(job, lambda told: None)
    assert not (tmp_path / "run-by-root").exists()
