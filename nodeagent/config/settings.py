"""Settings: one frozen object, made of layers; later layers win.

Layers: defaults, ``nodeagent.yaml`` on the boot partition, ``/etc/nodeagent/config.d/*.yaml``
sorted by name, environment (``NODEAGENT_ROLE``), flags. Unknown keys and bad values are errors
that name file, line, key and what would be right; nothing is used then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodeagent import paths
from nodeagent.config import checks, yaml_lines
from nodeagent.config.yaml_lines import Entry
from nodeagent.errors import ConfigError
from nodeagent.host.host import Host

BOOT_FILES = (paths.SETTINGS, paths.OLD_SETTINGS)
DROP_INS = "/etc/nodeagent/config.d"
# What the agent chose, or learned of its cluster, where nobody typed it: so it is read first.
CHOSEN_FILE = "/etc/nodeagent/networks.yaml"
RELEASE_FILE = "/etc/nodeagent/kubernetes.yaml"  # of the cluster that lets this node in
POD_NETWORK_FILE = "/etc/nodeagent/pod-network.yaml"  # of the cluster that this node is in
ROLE_FILE = f"{DROP_INS}/90-role.yaml"  # what `nodeagent role` writes
# The names of cluster.cni.NETWORKS, which is above this floor.
POD_NETWORKS = ("flannel", "kube-router", "none")
# Its repositories were archived in 2024 (cncf/landscape, pull request 4023).
GONE = dict.fromkeys(
    ("weave", "weave-net", "weavenet"),
    "Weave Net was given up by its makers in 2024, without a fix since. Write flannel, which needs"
    " as little.",
)
# The minors of cluster.versions, newest first, then those that an earlier nodeagent has installed:
# the settings of a member may name one for ever.
MINORS = ("1.37", "1.36")
MAX_BYTES = 64 * 1024  # a settings file is some lines; more is a mistake or an attack


def key(default: Any, check: checks.Check, secret: bool = False) -> Any:
    """One settings key: its default and the check that turns what was read into a value."""
    return field(default=default, metadata={"check": check, "secret": secret})


@dataclass(frozen=True)
class Kubernetes:
    """``kubernetes:`` which release, from where. The fingerprint pins the repository's key
    (OpenPGP v4 fingerprint, RFC 9580 5.5.4.2, 40 hex digits)."""

    version: str = key(MINORS[0], checks.kubernetes(MINORS))
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
    """``network:`` the LAN interface and the cluster's own networks (CIDR notation, RFC 4632).
    ``image_repository`` takes the place of the pod network's own registry. ``manifest``, a path or
    an address, takes the place of ``cni``."""

    interface: str = key("auto", checks.interface)
    pod_cidr: str = key("10.244.0.0/16", checks.network((8, 24), (48, 64)))
    service_cidr: str = key("10.96.0.0/12", checks.network((12, 28), (108, 124)))
    cni: str = key("flannel", checks.one_of(*POD_NETWORKS, gone=GONE))
    image_repository: str | None = key(None, checks.image_repository)
    manifest: str | None = key(None, checks.manifest)
    manifest_sha256: str | None = key(None, checks.sha256)

    @property
    def version(self) -> int:
        """The IP version of the cluster that these networks ask for."""
        return 6 if ":" in self.pod_cidr else 4


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
    seal_after: str = key("24h", checks.span)
    status_page: str = key("lan", checks.one_of("lan", "off"))


@dataclass(frozen=True)
class Origin:
    """Where a value came from: ``default``, ``FILE:LINE`` or ``environment``."""

    value: Any
    where: str


@dataclass(frozen=True)
class Loaded:
    """Settings, and for each dotted key its value and origin; ``overruled``: of what somebody
    wants of the pod network, where the cluster has another one, which cannot be changed there."""

    settings: Settings
    origins: Mapping[str, Origin]
    overruled: Origin | None = None


def load(host: Host, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read and validate all layers. Raises ConfigError; nothing is half used."""
    values: dict[str, Origin] = {}
    had: Origin | None = None
    for path in sources(host):
        _merge_section(Settings, "", yaml_lines.parse(_read(host, path), path), path, values)
        if path == POD_NETWORK_FILE:
            had = values.get("network.cni")
    overruled = _as_the_cluster_has(had, values)
    role = host.environ.get("NODEAGENT_ROLE")
    if role is not None:
        values["role"] = Origin(_checked("role", role, "environment NODEAGENT_ROLE"), "environment")
    for name, value in (flags or {}).items():
        values[name] = Origin(_checked(name, value, "command line"), "command line")
    settings, origins = _build(Settings, "", values)
    _networks_apart(origins)
    _one_pod_network(origins)
    return Loaded(settings, origins, overruled)


def _as_the_cluster_has(had: Origin | None, values: dict[str, Origin]) -> Origin | None:
    """Put the pod network that the cluster has in the place of another one that somebody wants,
    and give that."""
    if had is None:
        return None
    manifest = values.get("network.manifest")
    if manifest and had.value != "none":
        for name in ("network.manifest", "network.manifest_sha256"):
            values.pop(name, None)
        values["network.cni"] = had
        return manifest
    wanted, values["network.cni"] = values["network.cni"], had
    if manifest:  # that is what the cluster has, and calls none
        values.pop("network.cni")
    return None if wanted.value == had.value else wanted


def sources(host: Host) -> list[str]:
    """The files that exist, in the order in which they are read.

    Raises ConfigError for a file that was meant to be one: what is not read must not look read.
    """
    for path in BOOT_FILES:
        for wrong in (f"{path}.txt", f"{path.removesuffix('.yaml')}.yml"):
            if host.exists(wrong):
                raise ConfigError(
                    f"{wrong} is not read, because of its name.", f"Rename it to {path}."
                )
    chosen = [path for path in (CHOSEN_FILE, RELEASE_FILE) if host.exists(path)]
    # Of a member only: on the way in and out of a cluster it may be that of another one.
    if all(map(host.exists, (POD_NETWORK_FILE, paths.FORMED, paths.KUBELET_CONF))):
        chosen.append(POD_NETWORK_FILE)
    boot = [path for path in BOOT_FILES if host.exists(path)][:1]
    names = host.names(DROP_INS)
    for name in names:
        if name.endswith((".yml", ".yaml.txt")):
            raise ConfigError(
                f"{DROP_INS}/{name} is not read, because of its name.",
                f"Rename it to {name.split('.')[0]}.yaml.",
            )
    return chosen + boot + [f"{DROP_INS}/{name}" for name in names if name.endswith(".yaml")]


def _read(host: Host, path: str) -> bytes:
    try:
        size = host.path(path).stat().st_size
        data = host.read(path) if size <= MAX_BYTES else None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", "Check the card, or write the file again."
        ) from error
    if size > MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES} bytes.", "Keep only nodeagent's settings in it."
        )
    return data or b""


def _merge_section(
    kind: type, prefix: str, entries: Mapping[str, Entry], path: str, out: dict[str, Origin]
) -> None:
    known = {f.name: f for f in dataclasses.fields(kind)}
    for name, entry in entries.items():
        where = f"{path}, line {entry.line}"
        if name not in known:
            raise ConfigError(
                f"{where}: unknown key `{yaml_lines.show(prefix + name)}`.",
                checks.did_you_mean(name, known),
            )
        default = known[name].default
        if not dataclasses.is_dataclass(default):
            checked = _checked(f"{prefix}{name}", entry.value, where)
            out[f"{prefix}{name}"] = Origin(checked, f"{path}:{entry.line}")
        elif isinstance(entry.value, dict):
            _merge_section(type(default), f"{prefix}{name}.", entry.value, path, out)
        elif entry.value is not None:  # a section whose lines are all comments says nothing
            raise ConfigError(
                f"{where}: `{name}` is {yaml_lines.show(entry.value)}, not a section.",
                f"Write `{name}:` and below it, indented, {_listed(default)}.",
            )


def _listed(section: Any) -> str:
    return ", ".join(f"`{f.name}: …`" for f in dataclasses.fields(section))


def _networks_apart(origins: Mapping[str, Origin]) -> None:
    """Of what somebody typed; the agent's own choice follows that (cluster.networks)."""
    pods, services = origins["network.pod_cidr"], origins["network.service_cidr"]
    if any(one.where == "default" or one.where.startswith(CHOSEN_FILE) for one in (pods, services)):
        return
    if (":" in pods.value) != (":" in services.value):
        raise ConfigError(
            f"`network.pod_cidr` {pods.value} ({pods.where}) and `network.service_cidr` "
            f"{services.value} ({services.where}) are not of the same IP version.",
            "Choose both of IPv4 or both of IPv6.",
        )
    if checks.overlap(pods.value, services.value):
        raise ConfigError(
            f"`network.pod_cidr` {pods.value} ({pods.where}) and `network.service_cidr` "
            f"{services.value} ({services.where}) overlap.",
            "Choose two networks that share no address.",
        )


def _one_pod_network(origins: Mapping[str, Origin]) -> None:
    chosen, given = origins["network.cni"], origins["network.manifest"]
    digest = origins["network.manifest_sha256"]
    if (given.value is None) != (digest.value is None):
        has, lacks = ("", "_sha256") if digest.value is None else ("_sha256", "")
        raise ConfigError(
            f"`network.manifest{has}` ({(given if has == '' else digest).where}) is of no use"
            f" without `network.manifest{lacks}`.",
            "Write both; `sha256sum FILE` prints the second.",
        )
    if given.value is not None and chosen.value != Network.cni:
        raise ConfigError(
            f"`network.cni` {chosen.value} ({chosen.where}) and `network.manifest` ({given.where})"
            " would be two pod networks.",
            "Remove one of the two.",
        )


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
