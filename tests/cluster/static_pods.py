"""Static pods as processes: what kubelet and container runtime do with a manifest of kubeadm's.

The process sees what the manifest mounts and no more, and a copy of /etc/hosts made when it starts.
It is started anew when the manifest changes, when it ends, and when its startup or liveness probe
fails as often as the manifest allows. No images, cgroups or limits.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from nodeagent.host.host import Host
from tests.cluster import sandbox

LOG = logging.getLogger("kubelet")
MANIFESTS = "/etc/kubernetes/manifests"
PAUSES = (1.0, 30.0)  # seconds after the first crash and at most; the kubelet's are 10 and 300
GRACE = 30  # seconds that a static pod has to end: terminationGracePeriodSeconds
PROBES = {"periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "initialDelaySeconds": 0}


def hosts_file(host: Host, uid: str) -> Path:
    """The copy of /etc/hosts that a pod in the node's network gets when a container starts
    (pkg/kubelet/kubelet_pods.go, nodeHostsFileContent)."""
    copy = host.path(f"/var/lib/kubelet/pods/{uid}/etc-hosts")
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(
        f"# Kubernetes-managed hosts file (host network).\n{host.text('/etc/hosts') or ''}"
    )
    return copy


class StaticPod:
    """A manifest and its process."""

    def __init__(self, host: Host, name: str) -> None:
        self.host, self.name = host, name
        self.pod: dict[str, Any] = {}
        self.container: dict[str, Any] = {}  # the only one: kubeadm's pods have one each
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts, self.ready, self.digest = 0, False, ""
        self._text, self._pause, self._begin, self._began = "", 0.0, 0.0, 0.0
        self._starting, self._failed, self._next = False, 0, 0.0

    def tend(self) -> bool:
        """One look. False where the manifest is gone and all is over."""
        if self.name not in self.host.names(MANIFESTS):
            self.stop()
            return False
        text = self.host.text(f"{MANIFESTS}/{self.name}") or ""
        if text != self._text:
            try:
                pod = yaml.safe_load(text)
                container = pod["spec"]["containers"][0]
            except (yaml.YAMLError, TypeError, LookupError):
                return True  # half written
            self._text = text
            if pod == self.pod:
                return True
            self.stop()
            self.pod, self.container = pod, container
            # Of what the text says (pkg/kubelet/config/common.go, applyDefaults).
            self.digest = hashlib.sha256(json.dumps(pod, sort_keys=True).encode()).hexdigest()
            self._pause, self._begin, self.restarts = 0, 0, -1
        if not self.pod:
            return True
        self.rest()
        if self.process and (self.process.poll() is not None or self._unwell()):
            LOG.info("%s ends, with %s", self.name, self.process.poll())
            self.stop()
        if self.process is None and time.monotonic() >= self._begin:
            self._start()
        return True

    def rest(self) -> bool:
        """One look while there is no kubelet: the container runtime stops what it is told to."""
        if self.process and self._file(sandbox.STOP).exists():
            self.stop(0)  # crictl(1): without --timeout it is killed at once
        return True

    def _start(self) -> None:
        folders = {one["name"]: one["hostPath"] for one in self.pod["spec"].get("volumes", [])}
        mounts = {}
        for mount in self.container.get("volumeMounts", []):
            folder = folders[mount["name"]]
            if folder.get("type") == "DirectoryOrCreate":
                self.host.path(folder["path"]).mkdir(parents=True, exist_ok=True)
            mounts[mount["mountPath"]] = folder["path"], not mount.get("readOnly", False)
        hosts = hosts_file(self.host, self.container["name"])
        env = {one["name"]: one.get("value", "") for one in self.container.get("env", [])}
        words = [*self.container["command"], *self.container.get("args", [])]
        with self._file(sandbox.LOGS).open("ab") as log:
            self.process = subprocess.Popen(
                sandbox.container(self.host.root, hosts, mounts, env, *words),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._file(sandbox.STOP).unlink(missing_ok=True)  # it was for the one before
        self._file(sandbox.RUNS).touch()
        self._began, self.restarts = time.monotonic(), self.restarts + 1
        self._starting, self.ready = True, False
        self._watch()

    def stop(self, grace: int = GRACE) -> None:
        """End the process, and kill it after so many seconds; the next one waits, where this one
        has not lived long."""
        if self.process is None:
            return
        if self.process.poll() is None:
            inner = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            for pid in inner.split():  # bwrap's only child
                os.kill(int(pid), 15)
            killed, end = self._file(sandbox.STOP), time.monotonic() + grace
            while self.process.poll() is None and time.monotonic() < end and not killed.exists():
                time.sleep(0.05)
            self.process.kill()
            self.process.wait()
        self._file(sandbox.RUNS).unlink(missing_ok=True)
        long = time.monotonic() - self._began > 2 * PAUSES[1]
        self._pause = PAUSES[0] if long else min(2 * self._pause or PAUSES[0], PAUSES[1])
        self._begin, self.process, self.ready = time.monotonic() + self._pause, None, False

    def _file(self, folder: str) -> Path:
        path = self.host.path(f"{folder}/{self.container['name']}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def _probe(self) -> dict[str, Any]:
        """Of the moment, with its defaults; empty where there is none."""
        self._starting &= "startupProbe" in self.container
        kind = "startupProbe" if self._starting else "livenessProbe"
        return PROBES | self.container[kind] if kind in self.container else {}

    def _watch(self) -> None:
        self._failed, delay = 0, self._probe.get("initialDelaySeconds", 0)
        self._next = time.monotonic() + delay

    def _unwell(self) -> bool:
        """True where the probe of the moment has failed as often as its manifest allows."""
        probe = self._probe
        if not probe or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + probe["periodSeconds"]
        if not self._answers(probe):
            self._failed += 1
            return bool(self._failed >= probe["failureThreshold"])
        self._failed, self.ready = 0, True
        if self._starting:
            self._starting = False
            self._watch()
        return False

    def _answers(self, probe: dict[str, Any]) -> bool:
        asked = probe["httpGet"]
        ports = {one.get("name"): one["containerPort"] for one in self.container.get("ports", [])}
        host, port = asked["host"], ports.get(asked["port"], asked["port"])
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        url = f"{asked['scheme'].lower()}://{place}{asked['path']}"
        try:
            urllib.request.urlopen(
                url, timeout=probe["timeoutSeconds"], context=ssl._create_unverified_context()
            ).close()
        except (OSError, http.client.HTTPException):
            return False
        return True
