"""Settings: every bad input names file, line, key and remedy; nothing crashes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeagent.config import settings as config
from nodeagent.errors import ConfigError
from nodeagent.host.host import Host

BOOT = "/boot/firmware/nodeagent.yaml"
EXAMPLE = Path(__file__).parents[3] / "firmware" / "nodeagent.yaml"


def host(root: Path, content: bytes | str, path: str = BOOT) -> Host:
    """A host whose only settings are in one file."""
    where = root / path.lstrip("/")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Host(root)


def load(root: Path, content: bytes | str) -> config.Settings:
    return config.load(host(root, content)).settings


BOMB = "a: &a [x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}, *{chr(97 + i)}]\n"
    for i in range(20)
)

BOMB_IN_ONE = "&a [x, x, x]" + "".join(
    f", &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}, *{chr(97 + i)}]" for i in range(20)
)

# name -> (file, line, words the reason must have, words the remedy must have)
BAD: dict[str, tuple[bytes | str, int | None, str, str]] = {
    # keys
    "unknown": ("role: auto\nrolle: auto\n", 2, "unknown key `rolle`", "Did you mean `role`"),
    "case": ("Role: worker\n", 1, "unknown key `Role`", "`role`"),
    "far": ("zzz: 1\n", 1, "unknown key `zzz`", "Known here: role,"),
    "unknown below": ("network:\n  cidr: x\n", 2, "`network.cidr`", "`pod_cidr`"),
    "twice": ("role: auto\nrole: worker\n", 2, "`role` stands twice", "Keep one"),
    "twice below": ("network:\n  cni: flannel\n  cni: flannel\n", 3, "`network.cni`", "Keep one"),
    "section twice": ("network: {}\nnetwork: {}\n", 2, "`network` stands twice", "Keep one"),
    "merge key": ("x: &x {role: auto}\n<<: *x\n", 1, "unknown key `x`", ""),
    "merge key alone": ("<<: {role: auto}\n", 1, "unknown key `<<`", "Known here"),
    "key is a list": ("? [a, b]\n: 1\n", 1, "a key is one word", "`key: value`"),
    "key with escape": ('"\\e[31mred": 1\n', 1, r"`\x1b[31mred`", ""),
    "long key": (f"{'k' * 1000}: 1\n", 1, "…`", ""),
    "empty key": ("'': 1\n", 1, "unknown key ``", ""),
    # shapes
    "list at top": ("- role\n", 1, "`key: value` lines expected", "nodeagent config"),
    "word at top": ("role\n", 1, "`key: value` lines expected", ""),
    "section is a word": ("kubernetes: 1.36\n", 1, "`kubernetes` is 1.36", "`version: …`"),
    "section is a list": ("timing: [1]\n", 1, "`timing` is [1], not a section", "`listen: …`"),
    "word is a section": ("role: {a: b}\n", 1, "`role` is a section", "auto, control-plane"),
    "word is a list": ("role: [worker]\n", 1, "`role` is [worker]", "worker"),
    "too deep": ("network: {cni: {cni: flannel}}\n", 1, "`network.cni` is a section", "flannel"),
    "list of lists": ("control_plane: [[1]]\n", 1, "`control_plane`", "[word, word]"),
    "empty value": ("role:\n", 1, "`role` is empty", "auto"),
    # not YAML
    "tab": ("network:\n\tcni: flannel\n", 2, "not YAML", "not tabs"),
    "open quote": ('role: "auto\n', 2, "not YAML", "`key: value`"),
    "no colon space": ("role: auto\nrole:worker\n", 2, "not YAML", ""),
    "two documents": ("role: auto\n---\nrole: worker\n", 2, "not YAML", ""),
    "unknown alias": ("role: *gone\n", 1, "not YAML", ""),
    "directive": ("%YAML 9.9\n---\nrole: auto\n", None, "not YAML", ""),
    "bad escape": ('role: "\\U7FFFFFFF"\n', None, "not YAML", ""),
    "deep": ("[" * 30000, None, "not YAML", "`key: value`"),
    "deep sections": ("{a: " * 10000, None, "not YAML", ""),
    "NUL": (b"role: auto\nro\0le: 1\n", 2, "control character", "type it again"),
    "NUL in a word": (b"role: au\0to\n", 1, "control character", ""),
    "escape raw": (b"role: \x1b[31m\n", 1, "control character", ""),
    "only NUL": (bytes(512), 1, "control character", ""),
    "UTF-16": ("role: auto\n".encode("utf-16"), 1, "not UTF-8", "UTF-8"),
    "Latin-1": ("role: auto\n# f\xfcr\n".encode("latin-1"), 2, "not UTF-8", "UTF-8"),
    "too large": (b"#" * 65537, None, "larger than 65536 bytes", "Keep only"),
    # what could run, grow or never end
    "python tag": ("role: !!python/object/apply:os.system [id]\n", 1, "the tag !!python", "Remove"),
    "python word": ("role: !!python/name:os.system auto\n", 1, "has the tag !!python", "Remove"),
    "own tag": ("role: !mine auto\n", 1, "the tag !mine", "Remove !mine"),
    "tag in a list": ("control_plane: [!mine 10.0.0.1]\n", 1, "more than words", "[word"),
    "tag on a section": ("network: !mine {cni: flannel}\n", 1, "the tag !mine", "Remove"),
    "bad binary": ("role: !!binary x\n", 1, "the tag !!binary", ""),
    "bad int": ("expected_nodes: !!int x\n", 1, "`expected_nodes` is x", "1 to 1000"),
    "bomb": (f"{BOMB}control_plane: *t\n", 2, "`b` has more than words", ""),
    "bomb as value": (f"role: [{BOMB_IN_ONE}]\n", 1, "`role` has more than words", "[word"),
    "circle": ("control_plane: &a [*a]\n", 1, "`control_plane`", ""),
    "circle of sections": ("network: &a {cni: *a}\n", 1, "`network.cni` is a section", ""),
    "huge number": (f"expected_nodes: {'9' * 60000}\n", 1, "`expected_nodes` is 999", "1 to 1000"),
    "huge hex": (f"expected_nodes: 0x{'f' * 60000}\n", 1, "`expected_nodes` is 0xf", ""),
    # values
    "role": ("role: master\n", 1, "`role` is master", "auto, control-plane, worker"),
    "escape in value": ('role: "\\e]0;x\\a"\n', 1, r"`role` is \x1b]0;x\x07", ""),
    "long value": (f"role: {'x' * 60000}\n", 1, "…", "Write one of"),
    "zero nodes": ("expected_nodes: 0\n", 1, "is 0", "1 to 1000"),
    "negative": ("expected_nodes: -1\n", 1, "is -1", ""),
    "fraction": ("expected_nodes: 1.5\n", 1, "is 1.5", ""),
    "sexagesimal": ("expected_nodes: 1:30\n", 1, "is 1:30", ""),
    "octal": ("expected_nodes: 010\n", 1, "is 010", ""),
    "infinity": ("expected_nodes: .inf\n", 1, "is .inf", ""),
    "yes": ("expected_nodes: yes\n", 1, "is yes", ""),
    "date": ("expected_nodes: 2026-99-99\n", 1, "is 2026-99-99", ""),
    "seconds": ("timing:\n  listen: 3601\n", 2, "`timing.listen` is 3601", "1 to 3600"),
    "manifest alone": (
        "network: {manifest: /boot/firmware/n.yaml}\n",
        None,
        "`network.manifest` (",
        "Write both",
    ),
    "hash alone": (
        f"network: {{manifest_sha256: {'0' * 64}}}\n",
        None,
        "`network.manifest_sha256` (",
        "both",
    ),
    "manifest and cni": (
        f"network:\n  cni: none\n  manifest: /n.yaml\n  manifest_sha256: {'a' * 64}\n",
        None,
        "would be two pod networks",
        "one of the two",
    ),
    "manifest path": ("network: {manifest: n.yaml}\n", 1, "`network.manifest` is n.yaml", "path"),
    "hash": ("network: {manifest_sha256: 12}\n", 1, "`network.manifest_sha256`", "sha256sum"),
    "weave": ("network: {cni: weave}\n", 1, "`network.cni` is weave", "Write flannel"),
    "another network": ("network: {cni: antrea}\n", 1, "`network.cni` is antrea", "one of: fl"),
    "version": ("kubernetes:\n  version: 1.x\n", 2, "`kubernetes.version` is 1.x", "1.37.1"),
    "a minor that no nodeagent installed": (
        "kubernetes:\n  version: 1.20.3\n",
        2,
        "is 1.20.3",
        "Write one of 1.3",
    ),
    "version v": ("kubernetes:\n  version: v1.36\n", 2, "is v1.36", "1.36"),
    "version 2": ("kubernetes:\n  version: 2.0\n", 2, "is 2.0", "1.36"),
    "version newline": ('kubernetes:\n  version: "1.36\\n"\n', 2, r"is 1.36\n", "1.36"),
    "node name": ("node_name: Kitchen_Pi\n", 1, "`node_name` is Kitchen_Pi", "kitchen-pi"),
    "node name long": (f"node_name: {'a' * 64}\n", 1, "`node_name`", "at most 63"),
    "node name dots": ("node_name: a.b\n", 1, "`node_name`", ""),
    "interface": ("network: {interface: eth0/1}\n", 1, "`network.interface`", "eth0"),
    "scheme": ("kubernetes: {repository: ftp://x/}\n", 1, "`kubernetes.repository`", "https://"),
    "no host": ("kubernetes: {repository: 'https://'}\n", 1, "`kubernetes.repository`", ""),
    "user": ("kubernetes: {repository: 'https://a:b@x/'}\n", 1, "`kubernetes.repository`", ""),
    "only password": ("kubernetes: {repository: 'https://:b@x/'}\n", 1, "repository`", ""),
    "query": ("kubernetes: {repository: 'https://x/?'}\n", 1, "`kubernetes.repository`", ""),
    "space": ("kubernetes: {repository: 'https://x/ y'}\n", 1, "`kubernetes.repository`", ""),
    "quote": ("kubernetes: {repository: 'https://x/\"'}\n", 1, "`kubernetes.repository`", ""),
    "port": ("kubernetes: {repository: 'https://x:99999/'}\n", 1, "`kubernetes.repository`", ""),
    "port 0": ("kubernetes: {repository: 'https://x:0/'}\n", 1, "`kubernetes.repository`", ""),
    "bracket": ("kubernetes: {repository: 'https://[::1/'}\n", 1, "`kubernetes.repository`", ""),
    "two dots": ("kubernetes: {repository: 'https://a..b/'}\n", 1, "`kubernetes.repository`", ""),
    "image scheme": (
        "kubernetes:\n  image_repository: https://registry.example\n",
        2,
        "`kubernetes.image_repository` is https",
        "without https://",
    ),
    "fingerprint": ("containerd: {key_fingerprint: ABC}\n", 1, "key_fingerprint`", "gpg"),
    "no prefix": ("network: {pod_cidr: 10.244.0.0}\n", 1, "`network.pod_cidr`", "10.244.0.0/16"),
    "host bits": ("network: {pod_cidr: 10.244.0.1/16}\n", 1, "`network.pod_cidr`", ""),
    "prefix": ("network: {pod_cidr: 10.244.0.0/33}\n", 1, "`network.pod_cidr`", ""),
    "small": ("network: {pod_cidr: 10.244.0.0/30}\n", 1, "`network.pod_cidr`", "from 8 to 24"),
    "everything": ("network: {service_cidr: 0.0.0.0/0}\n", 1, "service_cidr`", "from 12 to 28"),
    "multicast": ("network: {pod_cidr: 224.0.0.0/8}\n", 1, "`network.pod_cidr`", ""),
    "netmask": ("network: {pod_cidr: 10.244.0.0/255.255.0.0}\n", 1, "`network.pod_cidr`", ""),
    "IPv6 pods, IPv4 services": (
        "network: {pod_cidr: 'fd00::/48', service_cidr: 10.43.0.0/16}\n",
        None,
        "are not of the same IP version",
        "both of",
    ),
    "IPv6 pods, too many": ("network: {pod_cidr: 'fd00::/47'}\n", 1, "`network.pod_cidr`", ""),
    "IPv6 services, too many": (
        "network: {service_cidr: 'fd00::/107'}\n",
        1,
        "`network.service_cidr`",
        "fd00:10:244::",
    ),
    "a link-local address": ("control_plane: [fe80::1]\n", 1, "no further than its link", ""),
    "a link-local address with its link": (
        "control_plane: ['fe80::1%eth0']\n",
        1,
        "no further than its link",
        "",
    ),
    "overlap": (
        "network:\n  pod_cidr: 10.0.0.0/8\n  service_cidr: 10.95.0.0/16\n",
        None,
        "10.0.0.0/8 (/boot/firmware/nodeagent.yaml:2) and `network.service_cidr` 10.95.0.0/16",
        "share no address",
    ),
    "address": ("control_plane: [pi.local]\n", 1, "`control_plane` has a bad", "[192.168.1.10]"),
    "address alone": ("control_plane: 192.168.1.10\n", 1, "is 192.168.1.10", "[192.168.1.10]"),
    "address nothing": ("control_plane: [~]\n", 1, "bad address: empty", ""),
    "address 0": ("control_plane: [0.0.0.0]\n", 1, "no machine's own", ""),
    "address loopback": ("control_plane: ['::1']\n", 1, "no machine's own", ""),
    "many addresses": (f"control_plane: [{'10.0.0.1, ' * 65}]\n", 1, "`control_plane` is", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str, tmp_path: Path) -> None:
    content, line, reason, remedy = BAD[name]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content)
    error = caught.value
    assert BOOT in error.reason
    if line is not None:
        assert f"line {line}:" in error.reason
    assert reason in error.reason
    assert remedy in error.remedy
    for text in (error.reason, error.remedy):
        assert text.isprintable()
        assert len(text) < 400
        assert text.endswith((".", "?"))


GOOD: dict[str, tuple[bytes | str, dict[str, Any]]] = {
    "empty": ("", {}),
    "comments": ("# nothing\n---\n", {}),
    "nothing": ("~\n", {}),
    "BOM and CRLF": (b"\xef\xbb\xbfrole: worker\r\nexpected_nodes: 3\r\n", {"role": "worker"}),
    "a time": ("seal_after: 7d\n", {"seal_after": "7d"}),
    "no time": ("seal_after: off\n", {"seal_after": "off"}),
    "off is a word": ("status_page: off\n", {"status_page": "off"}),
    "quoted": ("status_page: 'off'\n", {"status_page": "off"}),
    "a commented section": ("network:\n  # cni: flannel\nrole: worker\n", {"role": "worker"}),
    "anchor": ("role: &r worker\n", {"role": "worker"}),
    "number as name": ("node_name: 007\n", {"node_name": "007"}),
    "addresses": (
        "control_plane: [192.168.1.10, 'fd00::1']\n",
        {"control_plane": ("192.168.1.10", "fd00::1")},
    ),
    "no addresses": ("control_plane: []\n", {"control_plane": ()}),
}


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str, tmp_path: Path) -> None:
    content, expected = GOOD[name]
    result = dataclasses.asdict(load(tmp_path, content))
    assert {key: result[key] for key in expected} == expected


@pytest.mark.parametrize("version", ["1.36", "'1.36'", "1.37.3"])
def test_a_version_needs_no_quotes(version: str, tmp_path: Path) -> None:
    found = load(tmp_path, f"kubernetes: {{version: {version}}}\n")
    assert found.kubernetes.version == version.strip("'")


def test_a_mirror_may_have_port_and_path(tmp_path: Path) -> None:
    found = load(tmp_path, "kubernetes: {repository: 'http://[fd00::1]:8080/core:/stable/'}\n")
    assert found.kubernetes.repository == "http://[fd00::1]:8080/core:/stable"


def test_fingerprint_as_gpg_prints_it(tmp_path: Path) -> None:
    spaced = "9dc8 5822 9fc7 dd38 854a  e2d8 8d81 803c 0ebf cd88"
    found = load(tmp_path, f"containerd: {{key_fingerprint: {spaced}}}\n")
    assert found.containerd == config.Containerd()


def test_later_layers_win(tmp_path: Path) -> None:
    host(tmp_path, "role: worker\nexpected_nodes: 2\nnode_name: a\n")
    host(tmp_path, "expected_nodes: 3\n", f"{config.DROP_INS}/10-a.yaml")
    machine = host(tmp_path, "expected_nodes: 4\n", f"{config.DROP_INS}/50-b.yaml")
    host(tmp_path, "expected_nodes: 5\n", f"{config.DROP_INS}/60-c.yaml~")
    machine.environ = {"NODEAGENT_ROLE": "control-plane"}
    loaded = config.load(machine, {"node_name": "b"})
    assert (loaded.settings.expected_nodes, loaded.settings.role) == (4, "control-plane")
    assert loaded.origins["expected_nodes"].where == f"{config.DROP_INS}/50-b.yaml:1"
    assert loaded.origins["role"].where == "environment"
    assert loaded.origins["node_name"].value == "b"
    assert loaded.origins["status_page"].where == "default"


def test_bad_environment(tmp_path: Path) -> None:
    machine = Host(tmp_path)
    machine.environ = {"NODEAGENT_ROLE": ""}
    with pytest.raises(ConfigError, match="environment NODEAGENT_ROLE"):
        config.load(machine)


@pytest.mark.parametrize(
    "name",
    [f"{BOOT}.txt", "/boot/firmware/nodeagent.yml", f"{config.DROP_INS}/50-user.yml"],
)
def test_a_file_with_nearly_the_right_name_is_not_passed_over(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(host(tmp_path, "role: worker\n", name))
    assert name in caught.value.reason
    assert "Rename it to" in caught.value.remedy


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / BOOT.lstrip("/")).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"cannot be read: It is no regular file"):
        config.load(Host(tmp_path))


def test_a_circle_of_links(tmp_path: Path) -> None:
    (tmp_path / "etc/nodeagent/config.d").mkdir(parents=True)
    (tmp_path / "etc/nodeagent/config.d/a.yaml").symlink_to("a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml cannot be read"):
        config.load(Host(tmp_path))


def _leaves(section: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(section):
        value = getattr(section, entry.name)
        if dataclasses.is_dataclass(value):
            found |= _leaves(value, f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = value
    return found


def test_the_example_for_the_boot_partition_is_true(tmp_path: Path) -> None:
    """Every key stands there commented, with the default (or an example where there is none)."""
    text = EXAMPLE.read_text()
    assert load(tmp_path, text) == config.Settings()
    uncommented = re.sub(r"^#(?! )( *[a-z0-9_]+:)", r"\1", re.sub(r"^#  (?=[a-z])", "  ", text,
                         flags=re.M), flags=re.M)  # fmt: skip
    loaded = config.load(host(tmp_path, uncommented))
    defaults = _leaves(config.Settings())
    assert {key for key, o in loaded.origins.items() if o.where != "default"} == set(defaults)
    for key, value in defaults.items():
        if value is not None:
            assert loaded.origins[key].value == value, key


def test_defaults_pass_their_own_checks(tmp_path: Path) -> None:
    tree: dict[str, Any] = {}
    for key, value in _leaves(config.Settings()).items():
        if value is not None:
            *above, last = key.split(".")
            (tree.setdefault(above[0], {}) if above else tree)[last] = (
                list(value) if isinstance(value, tuple) else value
            )
    assert load(tmp_path, yaml.safe_dump(tree)) == config.Settings()


NAMES = [key.rsplit(".", 1)[-1] for key in _leaves(config.Settings())]
WORDS = st.sampled_from(
    [*NAMES, "network", "kubernetes", "timing", "control_plane", "auto", "off", "~", "<<", "? ",
     ": ", "- ", "\n", "\n  ", "[", "]", "{", "}", "&a ", "*a", "!!int ", "!!python/object:x ",
     "!x ", "|\n  ", "\"", "'", "#", "%", "---\n", "\t", "\0", "\ufeff", "\x85", "1", "0x",
     "1.36", "10.0.0.0/8", "2026-01-01", "=", ", "]
)  # fmt: skip


def _survives(root: Path, content: bytes) -> None:
    try:
        load(root, content)
    except ConfigError as error:
        assert BOOT in error.reason and error.remedy
        assert error.reason.isprintable() and len(error.reason) < 400


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(content=st.lists(WORDS, max_size=30).map(lambda words: "".join(words).encode()))
def test_any_words_load_or_raise(content: bytes, tmp_path: Path) -> None:
    _survives(tmp_path, content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(content=st.binary(max_size=2000) | st.text(max_size=500).map(str.encode))
def test_any_bytes_load_or_raise(content: bytes, tmp_path: Path) -> None:
    _survives(tmp_path, content)
