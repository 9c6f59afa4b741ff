"""The command line as a person meets it: outputs, exit codes, no traceback."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.config import show
from nodeagent.errors import TABLE, ConfigError, NodeAgentError, Usage
from nodeagent.host.host import Host
from nodeagent.imaging import bake
from nodeagent.status import eventlog
from nodeagent.status import model as status
from nodeagent.steps.show import renew_keys
from tests.support.machine import Machine, dpkg_status, put


def run(*words: str) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(main, list(words))


def tree(root: Path, **files: str) -> Path:
    """A folder with files; ``__`` in a name stands for ``/``."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The parts of a Raspberry Pi OS image that the steps read."""
    return tree(
        tmp_path,
        boot__firmware__cmdline_DOT_txt="console=tty1 root=PARTUUID=1-02 rootwait\n",
        boot__firmware__config_DOT_txt="[all]\n",
        etc__fstab="PARTUUID=1-02 / ext4 defaults 0 1\n/var/swap none swap sw 0 0\n",
        etc__hostname="raspberrypi\n",
        **{
            "etc__os-release": "ID=debian\nVERSION_CODENAME=trixie\n",
            "var__lib__dpkg__status": (
                "Package: dpkg\nStatus: install ok installed\nArchitecture: arm64\n"
                "Version: 1.22\n\n"
            ),
        },
    )


def test_prepare_does_the_file_actions_and_a_second_run_has_nothing_to_do(image: Path) -> None:
    first = run("prepare", "--root", str(image))
    assert first.exit_code == 0, first.output
    assert "cgroup_enable=memory" in (image / "boot/firmware/cmdline.txt").read_text()
    second = run("prepare", "--root", str(image))
    assert (second.exit_code, second.output) == (0, "Nothing to do: every step holds.\n")


def test_prepare_one_step_leaves_the_others(image: Path) -> None:
    assert run("prepare", "--root", str(image), "--step", "cgroup").exit_code == 0
    assert not (image / "etc/modules-load.d").exists()


def test_prepare_names_the_steps_it_knows(image: Path) -> None:
    result = run("prepare", "--root", str(image), "--step", "packages")
    assert result.exit_code == Usage.exit_code
    assert "cgroup" in result.output and "Traceback" not in result.output


def test_prepare_with_wrong_settings_changes_nothing(image: Path) -> None:
    tree(image, boot__firmware__nodeagent_DOT_yaml="role: auto\nexpected_nods: 2\n")
    before = (image / "boot/firmware/cmdline.txt").read_bytes()
    result = run("prepare", "--root", str(image))
    assert result.exit_code == ConfigError.exit_code
    assert "/boot/firmware/nodeagent.yaml, line 2" in result.output
    assert "Did you mean `expected_nodes`?" in result.output
    assert (image / "boot/firmware/cmdline.txt").read_bytes() == before


def test_status_without_an_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(status.read, "__defaults__", (str(tmp_path / "none.json"),))
    result = run("status")
    assert result.exit_code == status.NOT_RUNNING
    assert "systemctl start nodeagent" in result.output


def test_status_for_scripts_is_json_without_an_agent_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status.read, "__defaults__", (str(tmp_path / "none.json"),))
    with pytest.raises(SystemExit) as caught:
        main(["status", "--json"])
    said = capfd.readouterr()
    assert caught.value.code == status.NOT_RUNNING
    assert json.loads(said.out) == {"phase": "not-running"}
    assert "systemctl start nodeagent" in said.err


def test_a_damaged_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{")
    monkeypatch.setattr(status.read, "__defaults__", (str(tmp_path / "status.json"),))
    result = run("status", "--json")
    assert result.exit_code == status.NOT_RUNNING and "(E003)" in result.output


@pytest.mark.parametrize(("user", "advised"), [(0, False), (1000, True)])
def test_only_who_is_not_root_is_told_to_use_sudo(
    user: int, advised: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr(eventlog, "read", lambda host: [])
    monkeypatch.setattr(status.read, "__defaults__", (str(tmp_path / "none.json"),))
    result = run("events")
    assert "shows no events" in result.output and ("sudo" in result.output) is advised


OWN, NODES = "nodeagent.imaging.fleet_new.create", "nodeagent.config.show.show_config"
DENIED = PermissionError(errno.EACCES, "Permission denied", "/etc/x")
FULL = OSError(errno.ENOSPC, "No space left on device", "/etc/x")


@pytest.mark.parametrize(
    ("place", "error", "code", "status", "remedy"),
    [
        (OWN, DENIED, "E001", 77, "Choose a folder or file of yours"),
        (OWN, FULL, "E503", 74, "Free some space"),
        (OWN, OSError(errno.EROFS, "Read-only", "/etc/x"), "E002", 74, "write protection"),
        (OWN, OSError(errno.EIO, "I/O error", "/etc/x"), "E002", 74, "Check that"),
        (NODES, DENIED, "E001", 77, "with sudo"),
        (NODES, FULL, "E503", 74, "Free some space"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used(
    place: str, error: OSError, code: str, status: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a person's own computer root would only make files of root's."""

    def fails(*wanted: object) -> list[str]:
        raise error

    monkeypatch.setattr(place, fails)
    result = run(*(["fleet", "new", "home"] if place == OWN else ["config"]))
    assert result.exit_code == status, result.output
    assert f"({code})" in result.output and "/etc/x" in result.output
    assert remedy in result.output and ("sudo" in result.output) is ("sudo" in remedy)


@pytest.mark.network  # urllib3 tries IPv6 when it is loaded
@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["explain", "E999"], "E501", 64),
        (["fleet", "new", "my class"], "E501", 64),
        (["image", "fetch", "http://example.org/a.img"], "E501", 64),
        (["image", "fetch", "https://example.org/a.img", "--sha256", "zzz"], "E501", 64),
        (["fleet", "new", "there"], "E502", 73),
        (["plan"], "E504", 77),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_scripts_can_tell_refusals_apart(
    words: list[str], code: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (tmp_path / "there.fleet").touch()
    result = run(*words)
    assert (result.exit_code, f"({code})" in result.output) == (status, True), result.output


@pytest.mark.parametrize("option", ["--ssh-key", "--wifi-password-file"])
def test_a_file_that_is_not_text(option: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x80\xff")
    named = str(tmp_path / "binary")
    result = run("image", "bake", named, "--out", str(tmp_path / "o.img"), "--deb", named,
                 option, named)  # fmt: skip
    assert result.exit_code == Usage.exit_code and "is not a text file" in result.output


def test_every_kind_of_error_comes_back_from_a_bake() -> None:
    for code, kind in TABLE.items():
        told = bake._error({"failed": code, "reason": "r", "remedy": "d"})
        assert (type(told), told.reason, told.remedy) == (kind, "r", "d")


def test_a_reader_that_leaves_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `nodeagent doctor | head -n 1`."""

    def leaves(host: Host) -> list[str]:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(show, "show_config", leaves)
    assert run("config").output == ""


def test_version() -> None:
    assert run("--version").output.startswith("nodeagent, version ")


def test_config_names_each_origin(tmp_path: Path) -> None:
    tree(tmp_path, boot__firmware__nodeagent_DOT_yaml="expected_nodes: 3\n")
    lines = show.show_config(Host(tmp_path))
    assert "expected_nodes = 3  (/boot/firmware/nodeagent.yaml:1)" in lines
    assert "role = auto  (default)" in lines


def test_every_error_has_a_code_of_its_own() -> None:

    def below(kind: type[NodeAgentError]) -> list[type[NodeAgentError]]:
        return [kind, *(found for sub in kind.__subclasses__() for found in below(sub))]

    kinds = [kind for kind in below(NodeAgentError) if kind.__module__.startswith("nodeagent.")]
    assert sorted(kind.code for kind in kinds) == list(TABLE)
    assert set(kinds) == set(TABLE.values())
    for kind in kinds:
        assert {"code", "title", "explanation"} <= set(vars(kind)), f"{kind} is a row of the table"


@pytest.mark.network
def test_keys_are_renewed_and_nothing_else_is_done(tmp_path: Path) -> None:
    host = Machine(tmp_path)
    names = ("kubelet", "kubeadm", "kubectl")
    installed = dict.fromkeys(names, "1.37.2-1.1") | {
        "containerd": "2.3.1-1", "iptables": "1.8.11-2", "kubernetes-cni": "1.9.1-1.1",
        "cri-tools": "1.37.0-1.1",
    }  # fmt: skip
    put(tmp_path, {"/var/lib/dpkg/status": dpkg_status(installed),
        "/etc/apt/sources.list.d/nodeagent-kubernetes.sources": "x",
        "/etc/apt/keyrings/nodeagent-kubernetes.gpg": {"key": "expired-2024-12-31.asc"},
        "/etc/nodeagent/config.d/a.yaml": "kubernetes: {repository: 'http://127.0.0.1:9'}\n",
    })  # fmt: skip
    renew_keys(host)
    assert host.exists("/run/nodeagent/kubernetes-key-asked")
    assert host.ran == []


def test_nobody_tries_again_what_a_person_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"/etc/kubernetes/admin.conf": "x"})
    monkeypatch.setattr("nodeagent.host.host.Host", lambda: Machine(tmp_path))
    done = CliRunner().invoke(main, ["verify"])
    assert "ended with status 127" in done.output and "run it again" in done.output
    monkeypatch.setattr("nodeagent.cluster.control_plane.join_command", lambda host: host.call("x"))
    done = CliRunner().invoke(main, ["join-command"])
    assert "`x` ended with status 127" in done.output
    assert "When the cause is gone, run the command again." in done.output
    assert "tries again by itself" not in done.output
