"""Runs baseline.sh on the nodes over SSH: what a person with the recipe at hand would do."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nodeagent.cluster import cni, packages
from nodeagent.cluster.versions import DEFAULT
from nodeagent.config.settings import Containerd, Kubernetes, Network, Settings

from .checks import CheckFailed, all_ready
from .cluster import Cluster
from .guest import Guest, wait
from .lan import address_of
from .place import say

BOUND = 2400.0


class Baseline:
    """The script's stages, in a row; nodes are prepared side by side, as Ansible would do it."""

    def __init__(self, cluster: Cluster, script: Path) -> None:
        self.cluster = cluster
        self.script = script.read_text()
        self.stages: dict[str, str] = {}
        self._seen = ""

    def run(self) -> float:
        """Seconds from power-on to all nodes Ready."""
        guests = self.cluster.guests
        self._stage("ssh", lambda: _answer(guests))
        self._everywhere("cgroup")
        boots = [len(guest.power_ons()) for guest in guests]

        def rebooted() -> bool:
            on = [len(guest.power_ons()) for guest in guests]
            return all(now > then for now, then in zip(on, boots, strict=True))

        def back() -> None:
            wait("no reboot", rebooted, 300, 0.5)
            _answer(guests)

        self._stage("reboot", back)
        self._everywhere("prepare")
        leader, others = guests[0], guests[1:]
        address = address_of(leader.board.mac) or ""
        self._stage("init", lambda: self._run(leader, "init", address))
        manifest = cni.chosen(self._settings).manifest(self._settings)
        apply = "sudo kubectl --kubeconfig=/etc/kubernetes/admin.conf apply -f -"
        self._stage("pod network", lambda: leader.ssh(apply, 300, stdin=manifest))
        for guest in others:
            command = leader.sudo("kubeadm", "token", "create", "--print-join-command")
            self._stage(
                f"join {guest.name}", lambda g=guest, c=command: self._run(g, "join", *c.split())
            )
        self._stage("Ready", lambda: wait("not Ready", self._ready, BOUND, 2))
        first = min(guest.power_ons()[0]["at"] for guest in guests)
        return round(time.time() - float(first), 1)

    @property
    def _settings(self) -> Settings:
        """Where everything comes from, as the agent's settings say it."""
        if self.cluster.asked.mirror == "upstream":
            return Settings()
        images, version = "mirror.lab:5000", self.cluster.asked.kubernetes or DEFAULT.minor
        return Settings(
            kubernetes=Kubernetes(version, "http://mirror.lab/kubernetes", "", images),
            containerd=Containerd("docker", "http://mirror.lab/docker/linux/debian", ""),
            network=Network(image_repository=images),
        )

    def _ready(self) -> bool:
        try:
            return bool(all_ready(self.cluster))
        except CheckFailed as why:
            if str(why) != self._seen:
                self._seen = str(why)
                say(f"plain script, Ready so far: {why}")
            return False

    def _stage(self, name: str, work: object) -> None:
        assert callable(work)
        begin = time.monotonic()
        work()
        took = time.monotonic() - begin
        self.stages[name] = f"{took:.0f}"
        say(f"plain script, {name}: {took:.0f} s")

    def _everywhere(self, stage: str) -> None:
        def work() -> None:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda guest: self._run(guest, stage), self.cluster.guests))

        self._stage(stage, work)

    def _run(self, guest: Guest, stage: str, *arguments: str) -> None:
        settings = self._settings
        bases = [settings.kubernetes.repository, settings.containerd.repository]
        release = packages.wished(settings).kubernetes
        words = [stage, guest.name, release, *bases]
        words += [settings.kubernetes.image_repository, *arguments]
        guest.ssh(f"sudo sh -s -- {shlex.join(words)}", BOUND, stdin=self.script)


def _answer(guests: Sequence[Guest]) -> None:
    """Wait until every guest answers on SSH."""

    def all_answer() -> bool:
        return all(guest.ssh("true", 20) == "" for guest in guests)

    wait("not every node answers", all_answer, 600, 1)
