"""What is not Python: units, package, examples for cloud-init."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nodeagent import __version__, paths
from nodeagent.broker import main as broker_main
from nodeagent.config import settings as config
from nodeagent.host.host import Host
from nodeagent.join import broker_protocol, waiting_file
from nodeagent.serve.mdns import link
from tests.support.tools import tool

CHECKOUT = Path(__file__).parents[2]
UNITS = sorted((CHECKOUT / "systemd").iterdir())
EXAMPLES = sorted((CHECKOUT / "cloud-init" / "examples").iterdir())
SCHEMA = CHECKOUT / "build" / "cloud-init-schema.json"


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; it needs no running systemd for this."""
    command = tool("systemd-analyze", "Install it with: apt-get install systemd")
    return subprocess.run([command, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with a program that exists: verify looks for it."""
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/usr/bin/nodeagent ", "/bin/true "))
        copies.append(copy)
    return copies


@pytest.mark.processes
def test_units_are_right(units: list[Path]) -> None:
    done = analyze("verify", "--man=no", *map(str, units))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# systemd-analyze(1), security: 0 is locked in, 10 is open.
EXPOSURE = {
    "nodeagent-serve.service": 1.1, "nodeagent-broker.service": 1.2, "nodeagent.service": 6.8,
}  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize(("name", "most"), EXPOSURE.items())
def test_each_process_is_as_locked_in_as_its_work_lets_it(name: str, most: float) -> None:
    done = analyze("security", "--offline=true", str(CHECKOUT / "systemd" / name))
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= most, done.stdout


# Of programs that the agent might start (capabilities(7)).
NEEDS = {
    "date": "CAP_SYS_TIME", "hwclock": "CAP_SYS_TIME", "chattr": "CAP_LINUX_IMMUTABLE",
    "dmesg": "CAP_SYSLOG", "reboot": "CAP_SYS_BOOT", "poweroff": "CAP_SYS_BOOT",
    "halt": "CAP_SYS_BOOT", "bpftool": "CAP_BPF",
}  # fmt: skip


def test_no_step_starts_what_the_unit_takes_away() -> None:
    """What a command of root's does on any machine fails below the agent, and in no test of ours
    but the lab."""
    unit = (CHECKOUT / "systemd" / "nodeagent.service").read_text()
    taken = set(" ".join(re.findall("^CapabilityBoundingSet=~(.*)", unit, re.M)).split())
    assert taken >= set(NEEDS.values())
    begun = {
        (path.name, words[0].value)
        for folder in ("steps", "agent", "host", "cluster", "join", "trust")
        for path in (CHECKOUT / "nodeagent" / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (words := _words(node)) and isinstance(words[0], ast.Constant)
    }
    assert {one for one in begun if one[1] in NEEDS} == set()


def _words(node: ast.AST) -> Sequence[ast.expr]:
    """What may be the words of a command: a tuple, or what is given to a function that runs one."""
    match node:
        case ast.Tuple():
            return node.elts
        case ast.Call(func=ast.Attribute(attr="run" | "call" | "ask")):
            return node.args
    return ()


@pytest.mark.processes
def test_what_stays_open_for_the_agent_has_a_reason() -> None:
    unit = str(CHECKOUT / "systemd" / "nodeagent.service")
    done = analyze("security", "--offline=true", "--json=short", unit)
    left = {row["name"] for row in json.loads(done.stdout) if row["set"] is False}
    page = (CHECKOUT / "docs/reference/units.md").read_text().replace("\\|", "|")
    assert left <= set(re.findall(r"`([^`]+)`", page))
    assert all(f"{most}" in page for most in EXPOSURE.values())


def test_the_network_process_may_listen_where_it_does_and_nowhere_else() -> None:
    lines = (CHECKOUT / "systemd" / "nodeagent-serve.service").read_text().splitlines()
    allowed = {line.partition("=")[2] for line in lines if line.startswith("SocketBindAllow=")}
    assert "SocketBindDeny=any" in lines
    tcp = {f"tcp:{port}" for port in (paths.ENDPOINT_PORT, paths.PAGE_PORT)}
    assert allowed == tcp | {f"udp:{link.PORT}"}


def test_neither_process_sees_the_folders_of_the_other_nor_the_agents_keys() -> None:
    for name, hidden in {
        "nodeagent-serve.service": (paths.STATE, paths.BROKER, broker_protocol.ROOT_SOCKET),
        "nodeagent-broker.service": (paths.STATE, paths.ENDPOINT, paths.HANDOVER),
    }.items():
        lines = (CHECKOUT / "systemd" / name).read_text().splitlines()
        told = {word.lstrip("-") for line in lines if line.startswith("InaccessiblePaths=")
                for word in line.partition("=")[2].split()}  # fmt: skip
        assert {*hidden, paths.KUBERNETES, paths.KUBELET, paths.ETCD} <= told, name


def test_roots_socket_is_roots_alone() -> None:
    """And systemd hands it over together with the other one, after an update too."""
    lines = (CHECKOUT / "systemd" / "nodeagent-broker-root.socket").read_text().splitlines()
    assert {f"ListenStream={broker_protocol.ROOT_SOCKET}", "SocketMode=0600", "SocketUser=root",
            "SocketGroup=root", "Service=nodeagent-broker.service"} <= set(lines)  # fmt: skip
    service = (CHECKOUT / "systemd" / "nodeagent-broker.service").read_text().splitlines()
    for key in ("Sockets", "Requires", "After"):
        assert f"{key}={broker_main.UNITS}" in service


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_units_explain_themselves(unit: Path) -> None:
    text = unit.read_text()
    opening = text.split("\n\n[Unit]")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert "# Who:" in opening and "# When:" in opening and "# Why" in opening


def test_no_unit_waits_for_what_comes_after_it() -> None:
    for unit in UNITS:
        for line in unit.read_text().splitlines():
            if line.startswith(("After=", "Requires=", "Wants=")):
                assert not re.search("cloud-final|cloud-config|multi-user|network-online", line)


def test_package_version_is_the_program_s() -> None:
    first = (CHECKOUT / "debian" / "changelog").read_text().split("\n", 1)[0]
    assert first.startswith(f"nodeagent ({__version__}) ")


def test_package_depends_on_what_the_program_needs() -> None:
    """Every dependency of pyproject.toml, with the same floor, under Debian's name."""
    debian = {"systemd-python": "systemd", "pyjwt": "jwt", "pyyaml": "yaml"}
    control = (CHECKOUT / "debian" / "control").read_text()
    project = (CHECKOUT / "pyproject.toml").read_text()
    listed = project.split("\ndependencies = [")[1].split("]")[0]
    for name, floor in re.findall(r'"([\w-]+)>=([\d.]+)[";]', listed):
        wanted = f"python3-{debian.get(name.lower(), name.lower())} (>= {floor})"
        assert wanted in control, wanted


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_pass_cloud_init_s_schema(path: Path) -> None:
    if not SCHEMA.exists():
        pytest.fail(f"{SCHEMA.name} is missing. Run `make {SCHEMA.parent.name}/{SCHEMA.name}`.",
                    pytrace=False)  # fmt: skip
    text = path.read_text()
    assert text.startswith("#cloud-config\n")
    schema = json.loads(SCHEMA.read_text())
    data = yaml.safe_load(text)
    jsonschema.Draft4Validator(schema).validate(data)
    # Old schemas let unknown keys pass, newer cloud-inits warn about them (root
    # additionalProperties, since 23.4): so look for each key by name.
    assert set(data) <= _properties(schema)


def _properties(schema: dict[str, Any]) -> set[str]:
    names: set[str] = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        name = part["$ref"].rpartition("/")[2]
        names |= set(schema["$defs"][name].get("properties", {}))
    return names


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_settings_in_examples_are_right(path: Path, tmp_path: Path) -> None:
    for file in yaml.safe_load(path.read_text()).get("write_files", []):
        assert file["path"].startswith(f"{config.DROP_INS}/")
        target = tmp_path / file["path"].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file["content"])
    origins = config.load(Host(tmp_path)).origins
    changed = [o for o in origins.values() if o.where != "default"]
    assert bool(changed) == ("settings" in path.name or "vendor" in path.name)


def test_nothing_of_this_project_is_a_key_in_user_data() -> None:
    for path in EXAMPLES:
        assert "nodeagent" not in yaml.safe_load(path.read_text())


def test_the_broker_can_say_who_waits() -> None:
    """Its machine is read-only but for its own folders (systemd.exec(5), ProtectSystem=)."""
    service = (CHECKOUT / "systemd" / "nodeagent-broker.service").read_text().splitlines()
    folder = f"RuntimeDirectory={Path(waiting_file.PATH).parent.name}"
    assert {folder, "RuntimeDirectoryMode=0755"} <= set(service)
    assert Path(waiting_file.PATH).parent.parent == Path("/run")


def test_the_broker_keeps_its_socket() -> None:
    """Neither a broker that fails at its start nor an upgrade may close the door to the cluster.

    systemd ends a socket whose service failed too often (systemd.unit(5), StartLimitIntervalSec=)
    or is woken too often (systemd.socket(5), TriggerLimitIntervalSec=); debhelper stops what it
    did not start at every upgrade (dh_installsystemd(1), --no-start).
    """
    service = (CHECKOUT / "systemd" / "nodeagent-broker.service").read_text().splitlines()
    assert {"StartLimitIntervalSec=0", "Restart=on-failure", "RestartSec=5"} <= set(service)
    rules = (CHECKOUT / "debian" / "rules").read_text()
    kept = re.search(r"--no-stop-on-upgrade ((?:.*\\\n)*.*)", rules)
    assert kept and set(kept[1].replace("\\", "").split()) == {
        *broker_main.UNITS.split(),
        "nodeagent-broker.service",
    }


def test_the_first_boot_enables_no_socket_of_the_broker() -> None:
    """Where the machine-id is uninitialized, systemd enables all that no preset forbids."""
    preset = (CHECKOUT / "debian" / "80-nodeagent.preset").read_text().splitlines()
    told = {line.split()[1] for line in preset if line.startswith("disable ")}
    assert told == {unit.name for unit in UNITS if "broker" in unit.name}
    installed = (CHECKOUT / "debian" / "nodeagent.install").read_text()
    assert "debian/80-nodeagent.preset usr/lib/systemd/system-preset\n" in installed


@pytest.mark.processes
def test_what_systemd_enables_at_a_first_boot(tmp_path: Path) -> None:
    """The real preset-all over our units, as it runs where the machine-id is uninitialized."""
    shipped = tmp_path / "usr/lib/systemd"
    for folder in ("system", "system-preset"):
        (shipped / folder).mkdir(parents=True)
    for unit in UNITS:
        (shipped / "system" / unit.name).write_text(unit.read_text())
    preset = CHECKOUT / "debian" / "80-nodeagent.preset"
    (shipped / "system-preset" / preset.name).write_text(preset.read_text())
    systemctl = tool("systemctl", "Install it with: apt-get install systemd")
    subprocess.run([systemctl, f"--root={tmp_path}", "preset-all"], check=True, capture_output=True)
    enabled = {link.name for link in (tmp_path / "etc/systemd/system").rglob("*.wants/*")}
    assert enabled == {"nodeagent.service", "nodeagent-serve.service"}
