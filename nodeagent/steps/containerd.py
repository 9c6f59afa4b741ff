"""Steps: containerd's configuration, before it is installed so that its first start is the right
one, and containerd running with it. The whole file is owned: what distributions ship has the
CNI plugins elsewhere or the CRI turned off, and drop-ins merge differently in 1.x and 2.x
(containerd docs, cri/config.md; man/containerd-config.toml.5.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import paths
from nodeagent.cluster import packages
from nodeagent.config.settings import Settings
from nodeagent.host.actions import Action, Enable, Remove, Run, Write
from nodeagent.host.boot.files import BACKUP
from nodeagent.host.facts import Facts
from nodeagent.steps.owned_files import HEADER, holds, removed
from nodeagent.steps.step import Step

DROP_IN = "/etc/systemd/system/containerd.service.d/10-nodeagent.conf"
# containerd ignores it. In the running process it tells which configuration that was started
# with, and needs no clock for it.
MARK = "NODEAGENT_CONFIG"

# image_pull_with_sync_fs: without it a power cut leaves images with empty files that count as
# complete. discard_unpacked_layers: half the space on the card. With either, 2.x pulls images
# without its transfer service, which knows neither; it says so in its log once.
VERSION_2 = """version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  image_pull_with_sync_fs = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    discard_unpacked_layers = true

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""
VERSION_3 = """version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins.'io.containerd.cri.v1.images']
  image_pull_with_sync_fs = true
  discard_unpacked_layers = true

  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{sandbox}"

  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "/etc/containerd/certs.d"

{stats}[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
  {bin_dirs}
  conf_dir = "/etc/cni/net.d"
"""
# From 2.3 on it asks the shim of each container for its figures every second, for a rate that the
# kubelet takes from elsewhere (containerd, internal/cri/server/stats_collector.go); a control plane
# that begins on a small board needs that time.
STATS = """[plugins.'io.containerd.cri.v1.runtime']
  stats_collect_period = "60s"
  stats_retention_period = "5m"

"""


def config_text(release: tuple[int, int], sandbox: str) -> str:
    """The configuration for a containerd of this major and minor."""
    if release < (2, 0):
        return HEADER + VERSION_2.format(sandbox=sandbox)
    # bin_dir was replaced by bin_dirs in 2.1 (containerd RELEASES.md, deprecated features).
    bin_dirs = 'bin_dirs = ["/opt/cni/bin"]' if release >= (2, 1) else 'bin_dir = "/opt/cni/bin"'
    stats = STATS if release >= (2, 3) else ""
    return HEADER + VERSION_3.format(sandbox=sandbox, bin_dirs=bin_dirs, stats=stats)


def digest(config: str) -> str:
    """Short name of a configuration's content."""
    return hashlib.sha256(config.encode()).hexdigest()[:16]


def _wanted(facts: Facts, settings: Settings) -> str:
    sandbox = (
        f"{settings.kubernetes.image_repository}/pause:{packages.release(facts, settings).pause}"
    )
    return config_text(packages.containerd_release(facts, settings), sandbox)


def _files(facts: Facts, config: str) -> Iterator[Action]:
    there = facts.read(paths.CONTAINERD_CONFIG)
    if (
        there
        and not there.startswith(HEADER.encode())
        and not facts.exists(paths.CONTAINERD_CONFIG + BACKUP)
    ):
        # Docker's package ships one with the CRI turned off; somebody may have written another.
        yield Write(paths.CONTAINERD_CONFIG + BACKUP, there)
    yield from holds(facts, paths.CONTAINERD_CONFIG, config)
    mark = f'{HEADER}[Service]\nEnvironment="{MARK}={digest(config)}"\n'
    yield from holds(facts, DROP_IN, mark)


@dataclass(frozen=True)
class ContainerdConfig(Step):
    """dpkg keeps a configuration file that is there before the package (``--force-confold``)."""

    name = "containerd-config"
    title = "Configure containerd"
    group = "Software"
    on_image = True
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Before the first installation, and on images. Raises Blocked."""
        package = packages.containerd_package(facts, settings)
        if facts.packages.version(package) is None:
            yield from _files(facts, _wanted(facts, settings))

    def undo(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """containerd stays; what was there before us, or its own defaults, count from its next
        start on."""
        before = facts.read(paths.CONTAINERD_CONFIG + BACKUP)
        if before is None:
            yield from removed(facts, paths.CONTAINERD_CONFIG)
        else:
            if (facts.read(paths.CONTAINERD_CONFIG) or b"").startswith(HEADER.encode()):
                yield Write(paths.CONTAINERD_CONFIG, before)
            yield Remove(paths.CONTAINERD_CONFIG + BACKUP)
        yield from removed(facts, DROP_IN, folder=True)


@dataclass(frozen=True)
class Containerd(Step):
    """Runs, is started at boot, and runs with the configuration on disk."""

    name = "containerd"
    title = "Run containerd with its configuration"
    group = "Software"
    why = "It runs the containers."
    on_bake = True

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """In an image that is baked, all but the running. Raises Blocked."""
        if not facts.has_programs:
            return
        config = _wanted(facts, settings)
        yield from _files(facts, config)
        if not facts.exists("/etc/systemd/system/multi-user.target.wants/containerd.service"):
            yield Enable("containerd.service", now=False)
        if not facts.live:
            return
        pid = facts.ask("systemctl", "show", "-p", "MainPID", "--value", "containerd.service")
        environment = facts.read(f"/proc/{pid.out.strip() or 0}/environ") or b""
        if f"{MARK}={digest(config)}".encode() not in environment.split(b"\0"):
            yield Run(("systemctl", "daemon-reload"))
            # Running containers live on: their shims are not stopped with it.
            yield Run(("systemctl", "restart", "containerd.service"), timeout=300)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        return "runs as configured"
