"""The proof of a cluster: a small web Deployment that answers through its Service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeagent.config.settings import Kubernetes

from .guest import Guest, SshFailed, wait
from .mirror.recipes import AGNHOST
from .place import LabError

if TYPE_CHECKING:
    from .cluster import Cluster

REPLICAS = 3
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: @REPLICAS@
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: @IMAGE@
        args: [netexec, --http-port=8080]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /hostname, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""
# Each answer names the pod it comes from; the Service chooses one at random.
FETCH = """
import sys, urllib.request
seen = set()
for _ in range(60):
    with urllib.request.urlopen(f"http://{sys.argv[1]}/hostname", timeout=20) as answer:
        seen.add(answer.read().decode())
    if len(seen) == int(sys.argv[2]):
        break
print(*sorted(seen))
"""


def image(cluster: Cluster) -> str:
    if cluster.asked.mirror == "upstream":
        return f"{Kubernetes().image_repository}/e2e-test-images/agnhost:{AGNHOST}"
    found = [one for one in cluster.manifest["images"] if "/agnhost:" in one]
    if not found:
        raise LabError("The mirror has no image agnhost.")
    return str(found[0])


def service_answers(cluster: Cluster, leader: Guest, client: Guest) -> str:
    """Deploy, fetch every replica from ``client`` through the ClusterIP, remove."""
    text = MANIFEST.replace("@IMAGE@", image(cluster)).replace("@REPLICAS@", str(REPLICAS))
    kubectl = "sudo kubectl --kubeconfig=/etc/kubernetes/admin.conf"

    # An image is pulled and three pods start on an emulated processor.
    bound = cluster.asked.settling

    def taken() -> bool:
        # Repeatable, as people do: a small API server that has just started times out at first.
        return bool(leader.ssh(f"{kubectl} apply -f -", 120, stdin=text))

    def ready() -> bool:
        # One kubectl that watches: each new one costs an emulated processor seconds.
        watch = ("rollout", "status", "deployment/web", f"--timeout={bound:.0f}s")
        return bool(leader.kubectl(*watch, timeout=bound + 30))

    try:
        wait("the Deployment is not taken", taken, bound, 5)
        took = wait("the Deployment's replicas are not ready", ready, bound, 5)
        address = leader.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
        names = client.ssh(f"python3 - {address} {REPLICAS}", 300, stdin=FETCH).split()
        if len(names) != REPLICAS:
            raise SshFailed(f"only {len(names)} of {REPLICAS} replicas answered: {names}")
        return f"{REPLICAS} replicas ready in {took:.0f} s, all fetched from {client.name}"
    except LabError as why:
        pods = leader.kubectl("get", "pods", "-o", "wide")
        raise SshFailed(f"{why} {pods}") from why
    finally:
        leader.ssh(f"{kubectl} delete --wait=false -f -", 120, stdin=text, check=False)
