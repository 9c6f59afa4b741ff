"""Settings: one frozen object, made of layers; later layers win.

Layers: defaults, ``nodeagent.yaml`` on the boot partition, ``/etc/nodeagent/config.d/*.yaml``
sorted by name, environment (``NODEAGENT_ROLE``), flags. Unknown keys and bad values are errors
that name file, line, key and what would be right; nothing is used then.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from nodeagent import checks
from nodeagent.errors import ConfigError
from nodeagent.host.host import Host

BOOT_FILES = ("/boot/firmware/nodeagent.yaml", "/boot/nodeagent.yaml")
DROP_INS = "/etc/nodeagent/config.d"
MAX_BYTES = 64 * 1024  # a settings file is some lines; more is a mistake or an attack


def key(default: Any, check: checks.Check, secret: bool = False) -> Any:
    """One settings key: its default and the check that turns what was read into a value."""
    return field(default=default, metadata={"check": check, "secret": secret})


@dataclass(frozen=True)
class Kubernetes:
    """``kubernetes:`` which release, from where. The fingerprint pins the repository's key
    (OpenPGP v4 fingerprint, RFC 9580 5.5.4.2, 40 hex digits)."""

    version: str = key("1.36", checks.kubernetes_version)
    repository: str = key("https://pkgs.k8s.io", checks.url)
    key_fingerprint: str = key("DE15B14486CD377B9E876E1A234654DA9A296436", checks.fingerprint)
    image_repository: str = key("registry.k8s.io", checks.image_repository)


@dataclass(frozen=True)
class Containerd:
    """``containerd:`` the distribution's package, Docker's ``containerd.io``, or what fits."""

    source: str = key("auto", checks.one_of("auto", "distro", "docker"))
    repository: str = key("https://download.docker.com/linux/debian", checks.url)
    key_fingerprint: str = key("9DC858229FC7DD38854AE2D88D81803C0EBFCD88", checks.fingerprint)


@dataclass(frozen=True)
class Network:
    """``network:`` the LAN interface and the cluster's own networks (CIDR notation, RFC 4632)."""

    interface: str = key("auto", checks.interface)
    pod_cidr: str = key("10.244.0.0/16", checks.network)
    service_cidr: str = key("10.96.0.0/12", checks.network)
    cni: str = key("flannel", checks.one_of("flannel"))
    image_repository: str = key("ghcr.io/flannel-io", checks.image_repository)


@dataclass(frozen=True)
class Timing:
    """``timing:`` bounds in seconds. Defaults suit slow cards; tests and labs may change them."""

    listen: int = key(10, checks.integer(1, 3600))
    hold_down: int = key(5, checks.integer(1, 3600))
    solo_wait: int = key(180, checks.integer(1, 86400))
    clock_wait: int = key(120, checks.integer(1, 86400))
    network_wait: int = key(120, checks.integer(1, 86400))


@dataclass(frozen=True)
class Settings:
    """All settings of a node. Every default works."""

    role: str = key("auto", checks.one_of("auto", "control-plane", "worker"))
    expected_nodes: int | None = key(None, checks.integer(1, 1000))
    node_name: str | None = key(None, checks.node_name)
    control_plane: tuple[str, ...] = key((), checks.addresses)
    kubernetes: Kubernetes = Kubernetes()
    containerd: Containerd = Containerd()
    network: Network = Network()
    timing: Timing = Timing()
    status_page: str = key("lan", checks.one_of("lan", "off"))


@dataclass(frozen=True)
class Origin:
    """Where a value came from: ``default``, ``FILE:LINE`` or ``environment``."""

    value: Any
    where: str


@dataclass(frozen=True)
class Loaded:
    """Settings, and for each dotted key its value and origin."""

    settings: Settings
    origins: Mapping[str, Origin]


def load(host: Host, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read and validate all layers. Raises ConfigError; nothing is half used."""
    values: dict[str, Origin] = {}
    for path in sources(host):
        _merge_file(host, path, values)
    role = os.environ.get("NODEAGENT_ROLE")
    if role is not None:
        values["role"] = Origin(_checked("role", role, "environment NODEAGENT_ROLE"), "environment")
    for name, value in (flags or {}).items():
        values[name] = Origin(_checked(name, value, "command line"), "command line")
    settings, origins = _build(Settings, "", values)
    checks.networks_apart(settings.network.pod_cidr, settings.network.service_cidr)
    return Loaded(settings, origins)


def sources(host: Host) -> list[str]:
    """The files that exist, in the order in which they are read."""
    boot = [path for path in BOOT_FILES if host.exists(path)][:1]
    drop_ins = [f"{DROP_INS}/{n}" for n in host.names(DROP_INS) if n.endswith(".yaml")]
    return boot + drop_ins


def _merge_file(host: Host, path: str, values: dict[str, Origin]) -> None:
    try:
        data = host.read(path) or b""
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", "Check the card, or write the file again."
        ) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES} bytes.", "Keep only nodeagent's settings in it."
        )
    try:
        # utf-8-sig: editors on Windows put a byte order mark first.
        node = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text.", "Save the file as UTF-8.") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is nested too deeply"
        raise ConfigError(
            f"{path}{line}: not YAML: {problem}.",
            "Write one `key: value` a line; indent with spaces, not tabs.",
        ) from error
    if node is not None:
        _merge_node(Settings, "", node, path, values)


def _merge_node(
    kind: type, prefix: str, node: yaml.Node, path: str, out: dict[str, Origin]
) -> None:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{path}, line {node.start_mark.line + 1}: `key: value` lines expected"
            f"{f' below {prefix[:-1]}' if prefix else ''}.",
            "See `nodeagent config` for all keys.",
        )
    known = {f.name: f for f in dataclasses.fields(kind)}
    seen: set[str] = set()
    for key_node, value_node in node.value:
        name, line = str(key_node.value), key_node.start_mark.line + 1
        where = f"{path}, line {line}"
        if name not in known:
            raise ConfigError(
                f"{where}: unknown key `{prefix}{name}`.", checks.did_you_mean(name, known)
            )
        if name in seen:
            raise ConfigError(f"{where}: `{prefix}{name}` stands twice.", "Keep one of them.")
        seen.add(name)
        default = known[name].default
        if dataclasses.is_dataclass(default):
            _merge_node(type(default), f"{prefix}{name}.", value_node, path, out)
            continue
        value = yaml.SafeLoader("").construct_object(value_node, deep=True)
        checked = _checked(f"{prefix}{name}", value, where)
        out[f"{prefix}{name}"] = Origin(checked, f"{path}:{line}")


def _field(name: str) -> dataclasses.Field[Any]:
    kind: type = Settings
    *folders, last = name.split(".")
    for folder in folders:
        kind = type({f.name: f for f in dataclasses.fields(kind)}[folder].default)
    return {f.name: f for f in dataclasses.fields(kind)}[last]


def _checked(name: str, value: Any, where: str) -> Any:
    check: checks.Check = _field(name).metadata["check"]
    try:
        return check(value)
    except checks.Wrong as wrong:
        raise ConfigError(f"{where}: `{name}` {wrong}.", wrong.remedy) from wrong


def _build(kind: Any, prefix: str, values: Mapping[str, Origin]) -> tuple[Any, dict[str, Origin]]:
    origins: dict[str, Origin] = {}
    arguments: dict[str, Any] = {}
    for entry in dataclasses.fields(kind):
        name = prefix + entry.name
        if dataclasses.is_dataclass(entry.default):
            arguments[entry.name], below = _build(type(entry.default), f"{name}.", values)
            origins |= below
            continue
        origins[name] = values.get(name, Origin(entry.default, "default"))
        arguments[entry.name] = origins[name].value
    return kind(**arguments), origins
