"""The doctor against its cases, and its promises: short lines, no faint, nothing changed.

A case is a file ``doctor/CASE.yaml``: the machine as in the cases of steps (``test_steps``), and

    expect:  check -> [level, words of its value]
    absent:  checks that have nothing to say there
    exit:    exit code
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import doctor, steps
from nodeagent.cli.main import main
from nodeagent.cluster import health
from nodeagent.doctor import checkup
from nodeagent.doctor.finding import Check, Finding, Node, Seen, well
from nodeagent.host.host import Host
from nodeagent.statefile import StateFile
from nodeagent.trust import fleet_file
from nodeagent.trust.store import import_card
from tests.support.authority import CA_CERT, CA_KEY
from tests.support.machine import NOW, Machine, laid_out, put

CASES = sorted(Path(__file__).parent.glob("*.yaml"))
LEVELS = ("pass", "warning", "failure", "unknown")


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the network."""
    monkeypatch.setattr(health, "kubelet_healthy", lambda: False)
    monkeypatch.setattr(health, "answers", lambda *_: False)


def by_name(host: Host, online: bool = False) -> dict[str, Finding]:
    """The findings of a machine, each name once."""
    findings = doctor.examine(host, online)
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names))
    return dict(zip(names, findings, strict=True))


def everything(root: Path) -> dict[str, bytes]:
    """All files below a folder with their contents."""
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file() and not p.is_symlink()}


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    assert case["why"]
    host = laid_out(case, tmp_path)
    before = everything(tmp_path)
    findings = by_name(host)
    for name, (level, words) in case["expect"].items():
        assert (findings[name].level, name) == (level, name), findings[name]
        assert words in findings[name].value
    for name in case.get("absent", []):
        assert name not in findings
    for finding in findings.values():
        assert finding.level in LEVELS and finding.why.endswith(".")
        assert bool(finding.remedy) or finding.level in ("pass", "unknown"), finding
    assert doctor.exit_code(findings.values()) == case["exit"]
    assert all(len(line) <= 80 for _, line in doctor.as_text([*findings.values()], verbose=True))
    assert everything(tmp_path) == before, "a doctor only looks"


def test_every_step_is_a_check(tmp_path: Path) -> None:
    found = by_name(laid_out({}, tmp_path))
    assert {step.name for step in steps.SEQUENCE} <= set(found)


def test_a_plan_that_is_empty_passes_and_one_that_is_not_names_what_is_to_do(
    tmp_path: Path,
) -> None:
    files = {"/proc/meminfo": "MemTotal: 4000000 kB\n", "/etc/fstab": "/dev/sda2 none swap sw 0 0"}
    found = by_name(laid_out({"files": files}, tmp_path))
    assert found["swap"].value.startswith("to do: write /etc/fstab (")
    assert "systemctl start nodeagent" in found["swap"].remedy
    put(tmp_path, {"/etc/fstab": "# none\n"})
    assert by_name(Machine(tmp_path))["swap"] == Finding(
        "swap", "System", "pass", "off, now and at boot",
        "The kubelet does not start while there is swap.",
    )  # fmt: skip


def formed(root: Path, role: str = "worker") -> Machine:
    """A member of a cluster, with a certificate that ends in 2036."""
    put(root, {
        "/etc/kubernetes/kubelet.conf": "x", "/var/lib/nodeagent/kubeadm/formed": f"{role}\n",
        "/etc/kubernetes/pki/ca.crt": CA_CERT, "/etc/kubernetes/pki/ca.key": CA_KEY,
        "/proc/77/comm": "python3\n", "/run/nodeagent/status.json": json.dumps({
            "version": 1, "phase": "ready", "pid": 77, "control_plane": "192.168.7.3:6443",
            "role": role}),
    })  # fmt: skip
    return Machine(root)


def test_a_member_that_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def answers(*where: Any) -> bool:
        asked.append(where[:2])
        return True

    monkeypatch.setattr(health, "kubelet_healthy", lambda: True)
    monkeypatch.setattr(health, "answers", answers)
    found = by_name(formed(tmp_path))
    for name in ("agent", "kubelet-health", "control-plane", "certificates", "ports"):
        assert found[name].level == "pass", found[name]
    assert asked == [("192.168.7.3", 6443)]
    assert found["certificates"].value == "valid until 2036-01-01 at least"


def test_a_member_whose_parts_are_silent(tmp_path: Path) -> None:
    found = by_name(formed(tmp_path))
    assert found["kubelet-health"].value == "does not answer"
    assert found["control-plane"].value == "192.168.7.3:6443 does not answer"


@pytest.mark.parametrize(
    ("days", "level"), [(-1, "failure"), (29, "warning"), (31, "pass")], ids=str
)
def test_certificates_that_end(tmp_path: Path, days: int, level: str) -> None:
    from nodeagent.cluster import credentials

    host = formed(tmp_path)
    year = 365 * 86400
    leaf, key = credentials.client(
        "system:node:x", CA_CERT, CA_KEY, NOW - year + days * 86400 + 1e4
    )
    put(tmp_path, {"/var/lib/kubelet/pki/kubelet-client-current.pem": key + leaf})
    found = by_name(host)["certificates"]
    assert found.level == level
    assert "kubelet-client" in found.value or level == "pass"


def test_the_fleet(tmp_path: Path) -> None:
    host = laid_out({}, tmp_path)
    _, card = fleet_file.make("home")
    put(tmp_path, {"/boot/firmware/nodeagent.fleet": card})
    assert by_name(host)["fleet"].level == "warning"
    import_card(host, StateFile(host))
    found = by_name(host)["fleet"]
    assert (found.level, found.value) == ("pass", "home, may lead")
    put(tmp_path, {"/var/lib/nodeagent/trust/fleet.json": "{"})
    assert by_name(host)["fleet"].level == "failure"


class Closed(Machine):
    """A double of a machine whose secrets this user may not read."""

    is_root = False

    def read(self, name: str) -> bytes | None:
        """As an ordinary user."""
        if name.startswith(("/var/lib/nodeagent/", "/boot/firmware/nodeagent.yaml")):
            raise PermissionError(13, "Permission denied", name)
        return super().read(name)


def test_an_ordinary_user_is_told_what_needs_root(tmp_path: Path) -> None:
    put(tmp_path, {"/usr/sbin/nft": "", "/boot/firmware/nodeagent.yaml": "role: auto\n"})
    found = by_name(Closed(tmp_path))
    for name in ("journal", "fsync", "fleet", "firewall", "settings"):
        assert (found[name].level, found[name].value) == ("unknown", "needs root"), found[name]
    text = "\n".join(line for _, line in doctor.as_text([*found.values()]))
    assert "Run `sudo nodeagent doctor` to see all." in text.replace("\n", " ")


def test_a_check_that_fails_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faints(node: Node) -> Seen:
        raise ZeroDivisionError("no")

    def sees(node: Node) -> Seen:
        return well("x")

    both = (Check("a", "Board", "Why.", faints), Check("b", "Board", "Why.", sees))
    monkeypatch.setattr(checkup, "checks", lambda: both)
    first, second = doctor.examine(Machine(tmp_path))
    assert (first.level, first.value) == ("unknown", "the check failed: ZeroDivisionError: no")
    assert second.level == "pass"
    assert doctor.exit_code([first, second]) == 0


def test_odd_bytes_everywhere_are_findings_too(tmp_path: Path) -> None:
    odd = b"\xff\xfe\0[\n=\r\n\0\x1b[31m" * 40
    put(tmp_path, dict.fromkeys((
        "/var/lib/dpkg/status", "/proc/self/auxv", "/proc/self/mounts", "/proc/config.gz",
        "/proc/net/tcp", "/proc/net/udp6", "/sys/class/thermal/thermal_zone0/temp",
        "/run/nodeagent/status.json", "/etc/machine-id", "/etc/resolv.conf", "/proc/meminfo",
        "/sys/devices/platform/soc/soc:firmware/get_throttled", "/var/lib/nodeagent/state.json",
        "/etc/nodeagent/config.d/x.yaml", "/etc/ufw/ufw.conf", "/etc/os-release",
        "/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf", "/proc/device-tree/model",
    ), odd))  # fmt: skip
    host = Machine(tmp_path, {"nft -j list ruleset": "{", "vcgencmd get_throttled": "?"})
    put(tmp_path, {"/usr/sbin/nft": "", "/usr/bin/vcgencmd": ""})
    findings = doctor.examine(host)
    assert not [f for f in findings if f.value.startswith("the check failed")], findings
    for _, line in doctor.as_text(findings):
        assert len(line) <= 80 and line.isascii() and line.isprintable()


texts = st.text(max_size=300)


@given(st.lists(st.builds(
    Finding, st.sampled_from(["memory", "a-long-name-for-a-check"]), st.just("Board"),
    st.sampled_from(LEVELS), texts, texts, texts)), st.booleans())  # fmt: skip
def test_lines_fit_80_columns_whatever_was_found(findings: list[Finding], verbose: bool) -> None:
    for _, line in doctor.as_text(findings, verbose):
        assert len(line) <= 80 and line.isascii() and line.isprintable()


@given(st.lists(st.sampled_from(LEVELS), max_size=5))
def test_exit_codes(levels: list[Any]) -> None:
    findings = [Finding("x", "Board", level, "", "") for level in levels]
    wanted = 2 if "failure" in levels else 1 if "warning" in levels else 0
    assert doctor.exit_code(findings) == wanted


def test_online_names_who_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = "pkgs.k8s.io"
    monkeypatch.setattr(health, "answers", lambda host, *_: host != silent)
    host = laid_out({}, tmp_path)
    assert "online" not in by_name(host)
    assert by_name(host, online=True)["online"].value == "no answer from pkgs.k8s.io:443"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command, with findings of this test."""

    def run(*words: str, level: Any = "warning") -> Any:
        finding = Finding("a", "Board", level, "b", "Why.", "Do it.")
        monkeypatch.setattr(doctor, "examine", lambda *_: [finding])
        return CliRunner().invoke(main, ["doctor", *words])

    return run


def test_the_command(small: Callable[..., Any]) -> None:
    result = small()
    assert result.exit_code == 1
    assert result.output == (
        "Board\n  warn  a                   b\n        Why.\n        do: Do it.\n\n"
        "0 well, 1 warning, 0 failures.\n"
    )
    assert small(level="failure").exit_code == 2


def test_the_schema(small: Callable[..., Any]) -> None:
    report = json.loads(small("--json").output)
    assert list(report) == ["version", "node", "time", "level", "findings"]
    assert (report["version"], report["level"]) == (1, "warning")
    assert report["findings"] == [{
        "name": "a", "group": "Board", "level": "warning", "value": "b", "why": "Why.",
        "remedy": "Do it.",
    }]  # fmt: skip
