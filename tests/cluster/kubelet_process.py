"""A double of the kubelet: ``python -m tests.cluster.kubelet_process ROOT``, from power-on on.

As the real one: it starts when systemd is told to, and ends without its files; what it started goes
on without it. It gets its certificate by TLS bootstrap, registers its Node, renews its lease, and
calls the Node Ready once there is a pod network. --node-ip is read when it starts, and not told
where the machine has no such address. Static pods run (static_pods.py) and have mirror pods.

All other pods run in name only: nothing answers on their addresses. flannel's does what a node sees
of it, when it starts: the CNI file, the condition NetworkUnavailable, its public address. There is
no port 10250, so no logs and no exec. It asks the API server as the agent does (kubelet_api.py).
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import re
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeagent import paths
from nodeagent.cluster import kubelet_api
from nodeagent.cluster.health import api_server
from nodeagent.cluster.kubeadm_state import BOOTSTRAP_CONF, KUBELET_FILES
from nodeagent.host.host import Host
from nodeagent.host.reboot import boot_id
from tests.cluster import sandbox
from tests.cluster.static_pods import MANIFESTS, StaticPod, hosts_file
from tests.support import resolver
from tests.support.programs import CNI

LOG = logging.getLogger("kubelet")
TICK, API_TICK = 0.2, 1.0  # seconds between looks at the machine, and at the API
SPEED = 5.0  # how much faster the agent's and this double's waits go than on a board
RENEW = 10.0 / SPEED  # seconds: nodeStatusUpdateFrequency, and a quarter of a lease
PATIENCE = 120.0  # seconds for a certificate; then another one is asked for
CONFIG, FLAGS = KUBELET_FILES
MIRROR, SOURCE = "kubernetes.io/config.mirror", "kubernetes.io/config.source"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
ROOM = {"cpu": "4", "memory": "4Gi", "pods": "110"}


def moment() -> str:
    """Now, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(**values: tuple[bool, str]) -> list[dict[str, str]]:
    """Of a Node or Pod: kind -> whether it is true, and why."""
    return [{"type": kind, "status": str(true), "reason": why, "message": why,
             "lastTransitionTime": moment()} for kind, (true, why) in values.items()]  # fmt: skip


class Healthy(BaseHTTPRequestHandler):
    """GET /healthz: it is well as long as it runs."""

    def do_GET(self) -> None:
        """Anything asked for."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nobody asks who asked."""


class Kubelet:
    """The kubelet from one start of its service to the next stop."""

    def __init__(self, host: Host, version: str, running: set[str]) -> None:
        """``running``: uids of pods whose containers run. Raises OSError where the real one ends at
        once, and systemd tries again."""
        flags = dict(re.findall(r"--([a-z-]+)=([^\s\"]+)", host.text(FLAGS) or ""))
        named = (host.text("/proc/sys/kernel/hostname") or "").strip()
        self.host, self.version, self.running = host, version, running
        self.name = flags.get("hostname-override", named)
        self.address = flags.get("node-ip", "")
        host.write(sandbox.CMDLINE, f"/usr/bin/kubelet\0--node-ip={self.address}\0".encode())
        self._told, self._renewed = ("", False), -RENEW
        if not host.text(CONFIG):
            raise OSError("there is no configuration")
        born = re.search(r"certificate-data: (\S+)\s+client-key-data: (\S+)", self._conf())
        if born and not host.exists(paths.KUBELET_CLIENT):
            self._keep(b"".join(map(base64.b64decode, born.groups())))
        if not (self._conf() and self._certified()) and not host.text(BOOTSTRAP_CONF):
            raise OSError("there is no way to the API server")
        self._server = HTTPServer(("127.0.0.1", 10248), Healthy)
        threading.Thread(target=self._server.serve_forever, args=(TICK,), daemon=True).start()

    def end(self) -> None:
        """It is stopped."""
        self._server.shutdown()
        self._server.server_close()

    def look(self, static: list[StaticPod]) -> None:
        """One round with the API server. Raises OSError."""
        if not (self._conf() and self._certified()):
            self._bootstrap()
        self._register()
        self._pods({f"{one.container['name']}-{self.name}": one for one in static if one.pod})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer; None where there is no such object. Raises OSError."""
        answer = kubelet_api.ask(self.host, method, path, body)
        if answer is None or answer[0] not in (200, 201, 404, 409):
            raise OSError(f"{method} {path} was answered with {answer}")
        return None if answer[0] == 404 else answer[1]

    # Its certificate.

    def _conf(self) -> str:
        return self.host.text(paths.KUBELET_CONF) or ""

    def _certified(self) -> bool:
        try:
            pem = x509.load_pem_x509_certificate(self.host.read(paths.KUBELET_CLIENT) or b"")
        except ValueError:
            return False
        return pem.not_valid_after_utc > datetime.now(UTC)

    def _keep(self, pem: bytes) -> None:
        folder = Path(paths.KUBELET_CLIENT).parent
        name = f"{folder}/kubelet-client-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}.pem"
        self.host.write(name, pem, 0o600)
        self.host.link(paths.KUBELET_CLIENT, name)

    def _bootstrap(self) -> None:
        """The way to the API server, with a certificate for the token where there is none at hand
        (kubernetes.io, "TLS bootstrapping"; pkg/kubelet/certificate/bootstrap/bootstrap.go)."""
        text = self.host.text(BOOTSTRAP_CONF) or ""
        config, server = yaml.safe_load(text), api_server(text)
        if server is None:
            raise OSError("there is no server to ask for a certificate")
        own = dict.fromkeys(("client-certificate", "client-key"), paths.KUBELET_CLIENT)
        lasting = yaml.safe_load(text)
        lasting["users"][0]["user"] = own
        self.host.write(paths.KUBELET_CONF, yaml.safe_dump(lasting).encode(), 0o600)
        if self._certified():
            return
        authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
        connection = http.client.HTTPSConnection(
            *server, timeout=10,
            context=ssl.create_default_context(cadata=base64.b64decode(authority).decode()),
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}",
                   "Content-Type": "application/json"}  # fmt: skip

        def ask(method: str, path: str, body: Any = None) -> Any:
            connection.request(method, path, body and json.dumps(body), headers)
            return json.loads(connection.getresponse().read())

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{self.name}"),
        ])  # fmt: skip
        request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
        pem = request.public_bytes(serialization.Encoding.PEM)
        made = ask("POST", REQUESTS, {
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "csr-"},
            "spec": {"request": base64.b64encode(pem).decode(),
                     "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                     "usages": ["digital signature", "client auth"]},
        })  # fmt: skip
        end = time.monotonic() + PATIENCE
        while "name" in made.get("metadata", {}) and time.monotonic() < end:
            made = ask("GET", f"{REQUESTS}/{made['metadata']['name']}")
            if signed := made.get("status", {}).get("certificate"):
                self._keep(base64.b64decode(signed) + key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                    serialization.NoEncryption(),
                ))  # fmt: skip
                return
            time.sleep(TICK)
        raise OSError(f"the certificate request was not answered: {made.get('message')}")

    # Its Node, and the pods on it.

    def _register(self) -> None:
        """Tell how the node is, where that is new or due."""
        there, address = self.host.exists(CNI), self.address
        if not self._is_here():
            # kubelet_node_status.go: what cannot be told stays as it was.
            LOG.warning("failed to validate nodeIP: %s is not on this machine", address)
            address = ""
        facts = address, there
        if self._told == facts and time.monotonic() - self._renewed < RENEW:
            return
        status: dict[str, Any] = {
            "conditions": conditions(
                MemoryPressure=(False, "Enough"), DiskPressure=(False, "Enough"),
                PIDPressure=(False, "Enough"),
                Ready=(there, "KubeletReady" if there else "KubeletNotReady"),
            ),
            "capacity": ROOM, "allocatable": ROOM,
            "nodeInfo": {"kubeletVersion": self.version, "architecture": sandbox.ARCH,
                         "operatingSystem": "linux", "containerRuntimeVersion": "double://0",
                         "bootID": boot_id(self.host)},
        }  # fmt: skip
        for condition in status["conditions"]:
            condition["lastHeartbeatTime"] = moment()
            if self._told == facts:
                del condition["lastTransitionTime"]
        if address:
            kinds = {"InternalIP": address, "Hostname": self.name}
            status["addresses"] = [{"type": k, "address": v} for k, v in kinds.items()]
        if self.ask("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status}) is None:
            labels = {"hostname": self.name, "os": "linux", "arch": sandbox.ARCH}
            labels = {f"kubernetes.io/{kind}": value for kind, value in labels.items()}
            self.ask("POST", "/api/v1/nodes", {"metadata": {"name": self.name, "labels": labels},
                                               "status": status})  # fmt: skip
        lease = {"holderIdentity": self.name, "leaseDurationSeconds": 40,
                 "renewTime": f"{moment()[:-1]}.000000Z"}  # fmt: skip
        if self.ask("PATCH", f"{LEASES}/{self.name}", {"spec": lease}) is None:
            self.ask("POST", LEASES, {"metadata": {"name": self.name}, "spec": lease})
        self._told, self._renewed = facts, time.monotonic()

    def _pods(self, static: dict[str, StaticPod]) -> None:
        listed = self.ask("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.name}")
        for pod in listed["items"]:
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            mirrored = meta.get("annotations", {}).get(MIRROR)
            one = static.pop(meta["name"], None) if mirrored else None
            if "deletionTimestamp" in meta or (mirrored and not (one and one.digest == mirrored)):
                self.ask("DELETE", path, {"gracePeriodSeconds": 0})
            elif one:
                self._tell(path, pod, one.restarts, one.ready)
            elif meta["uid"] not in self.running or self._stopped(pod):
                self.running.discard(meta["uid"])
                if not pod["spec"].get("hostNetwork") and not self.host.exists(CNI):
                    continue
                if meta["namespace"] == "kube-flannel" and not self._is_here():
                    continue  # flanneld finds no interface with the address, and ends
                old = pod["status"].get("containerStatuses")
                self._tell(path, pod, old[0]["restartCount"] + 1 if old else 0, True)
                if meta["namespace"] == "kube-flannel":
                    self._flannel()
                if pod["spec"].get("hostNetwork"):
                    hosts_file(self.host, meta["uid"])
                for name in (meta["uid"], pod["spec"]["containers"][0]["name"]):
                    self.host.write(f"{sandbox.RUNS}/{name}", b"")
                self.running.add(meta["uid"])
            elif old := pod["status"].get("containerStatuses"):
                self._tell(path, pod, old[0]["restartCount"], True)
        for name, one in static.items():
            self._mirror(name, one)

    def _is_here(self) -> bool:
        """Whether the address that it tells is one of this machine's."""
        own = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True).stdout
        return f" {self.address}/" in own

    def _stopped(self, pod: dict[str, Any]) -> bool:
        """Whether somebody has stopped its container, which then starts again."""
        named = (pod["metadata"]["uid"], pod["spec"]["containers"][0]["name"])
        asked = [name for name in named if self.host.exists(f"{sandbox.STOP}/{name}")]
        for name in asked:
            self.host.remove(f"{sandbox.STOP}/{name}")
        return bool(asked)

    def _flannel(self) -> None:
        device = ("flannel.1", "type", "vxlan", "id", "1", "dstport", "8472", "nolearning")
        subprocess.run(["ip", "link", "del", "flannel.1"], capture_output=True)
        subprocess.run(["ip", "link", "add", *device, "local", self.address], check=True)
        path = f"/api/v1/nodes/{self.name}"
        up = conditions(NetworkUnavailable=(False, "FlannelIsUp"))
        self.ask("PATCH", f"{path}/status", {"status": {"conditions": up}})
        public = {"flannel.alpha.coreos.com/public-ip": self.address}
        self.ask("PATCH", path, {"metadata": {"annotations": public}})
        self.host.write(CNI, b"{}\n")

    def _tell(self, path: str, pod: dict[str, Any], restarts: int, ready: bool) -> None:
        """Let the API server show a pod as running, where that is news."""
        old = (pod["status"].get("containerStatuses") or [{}])[0]
        # generateAPIPodStatus in kubelet_pods.go: of a pod that goes on too, the address of now.
        own = pod["status"].get("podIP", "") == self.address
        if (own or not pod["spec"].get("hostNetwork")) and (
            old.get("restartCount"),
            old.get("ready"),
        ) == (restarts, ready):
            return
        state = {"running": {"startedAt": moment()}}
        status: dict[str, Any] = {
            "phase": "Running", "startTime": pod["status"].get("startTime", moment()),
            "conditions": conditions(
                Initialized=(True, ""), ContainersReady=(ready, ""), Ready=(ready, "")
            ),
            "containerStatuses": [
                {"name": one["name"], "image": one["image"], "imageID": "", "state": state,
                 "ready": ready, "restartCount": restarts} for one in pod["spec"]["containers"]
            ],
        }  # fmt: skip
        if pod["spec"].get("hostNetwork"):
            # A list that is merged by its addresses would keep the one of before.
            own = [{"ip": self.address}, {"$patch": "replace"}]
            status |= {"podIP": self.address, "podIPs": own}
        self.ask("PATCH", f"{path}/status", {"status": status})

    def _mirror(self, name: str, one: StaticPod) -> None:
        meta, node = one.pod["metadata"], self.ask("GET", f"/api/v1/nodes/{self.name}")
        keys = (MIRROR, "kubernetes.io/config.hash")
        owner = {"apiVersion": "v1", "kind": "Node", "name": self.name, "controller": True,
                 "uid": node["metadata"]["uid"]}  # fmt: skip
        always = [{"operator": "Exists", "effect": "NoExecute"}]
        self.ask("POST", f"/api/v1/namespaces/{meta['namespace']}/pods", {
            "metadata": {**meta, "name": name, "ownerReferences": [owner],
                         "annotations": {**meta.get("annotations", {}), SOURCE: "file",
                                         **dict.fromkeys(keys, one.digest)}},
            "spec": {**one.pod["spec"], "nodeName": self.name, "tolerations": always},
        })  # fmt: skip


class Machine:
    """What outlives the kubelet: systemd's wish, and the containers."""

    def __init__(self, host: Host, version: str) -> None:
        self.host, self.version = host, version
        self.kubelet: Kubelet | None = None
        self.running: set[str] = set()
        self.static: dict[str, StaticPod] = {}

    def run(self) -> None:
        """For ever."""
        threading.Thread(target=self._talk, daemon=True).start()
        wish, again = "", 0.0
        while True:
            wanted = (self.host.text(sandbox.WANTED) or "").strip()
            if self.kubelet and wanted != wish:
                self.kubelet.end()
                self.kubelet = None
            if wanted == sandbox.NONE != wish:
                self.running.clear()
                for one in list(self.static.values()):
                    one.stop()
            if wanted.startswith("on") and not self.kubelet and time.monotonic() > again:
                again = time.monotonic() + 1
                try:
                    self.kubelet = Kubelet(self.host, self.version, self.running)
                except OSError as error:
                    LOG.info("the kubelet ends: %s", error)
            wish = wanted
            for name in self.host.names(MANIFESTS) if self.kubelet else ():
                if name not in self.static and not name.startswith("."):
                    self.static[name] = StaticPod(self.host, name)
                    threading.Thread(target=self._tend, args=(name,), daemon=True).start()
            time.sleep(TICK)

    def _tend(self, name: str) -> None:
        one = self.static[name]
        while one.tend() if self.kubelet else one.rest():
            time.sleep(TICK)
        del self.static[name]

    def _talk(self) -> None:
        while True:
            try:
                if self.kubelet:
                    self.kubelet.look(list(self.static.values()))
            except (OSError, ValueError, http.client.HTTPException) as error:
                LOG.info("%s", error)
            time.sleep(API_TICK)


def main(root: str) -> None:
    """Until it is killed."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    resolver.install(Path(root))
    command = [str(sandbox.PROGRAMS["kubelet"]), "--version"]
    version = subprocess.run(command, capture_output=True, text=True).stdout.split()[-1]
    Machine(Host(Path(root)), version).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
