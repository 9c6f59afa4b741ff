"""``nodeagent verify``: tries the cluster with a small web Deployment, as tutorials end with.

A small web Deployment, its replicas spread over the nodes; each replica is fetched from here, each
fetches each other, and all through the Service by address and by name. Everything is in one
namespace of its own, which is deleted at the end, whatever happened.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from nodeagent import paths
from nodeagent.cluster import cni, kubectl
from nodeagent.cluster.cni.network import PodNetwork
from nodeagent.cluster.privilege import need_control_plane
from nodeagent.cluster.rest import is_ready
from nodeagent.config import settings as config
from nodeagent.errors import CommandFailed, VerifyFailed
from nodeagent.host.facts import Facts
from nodeagent.host.host import Host

NAMESPACE = "nodeagent-verify"
REPLICAS = 3
PORT = 8080
AGNHOST = "e2e-test-images/agnhost:2.66.1"  # registry.k8s.io; Kubernetes' own image for such tests
READY_BOUND = 600.0  # seconds; an image is pulled first
LOOK = 3.0
ANSWER_BOUND = 10.0  # seconds for one answer
SILENCE_BOUND = 600.0  # seconds that the API server may leave a request unanswered
TRIES = 5
SPREAD = 40  # requests to the Service, which picks a replica at random (kube-proxy, iptables)
GONE_BOUND = 300.0  # seconds for the removal
POLICY_BOUND = 120.0  # seconds until a policy counts, or does no more

# The replicas go where a person's own would, and nowhere else.
MANIFEST = """\
apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels: {{pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsNonRoot: true, runAsUser: 65534, seccompProfile: {{type: RuntimeDefault}}}}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {{matchLabels: {{app: web}}}}
      containers:
      - name: web
        image: {image}
        args: [netexec, --http-port={port}]
        ports: [{{containerPort: {port}}}]
        readinessProbe: {{httpGet: {{path: /hostname, port: {port}}}}}
        resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}
        securityContext:
          allowPrivilegeEscalation: false
          capabilities: {{drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {namespace}}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: {port}}}]
"""  # noqa: E501  YAML

# Who is labelled so takes nothing from anybody (networking.k8s.io/v1, an empty ingress).
POLICY = f"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: closed, namespace: {NAMESPACE}}}
spec:
  podSelector: {{matchLabels: {{closed: "true"}}}}
  policyTypes: [Ingress]
"""

SELECTED = ("-n", NAMESPACE, "-l", "app=web")
Fetch = Callable[[str, int, str], str]
T = TypeVar("T")


@dataclass(frozen=True)
class Pod:
    """A replica: its name, node and address."""

    name: str
    node: str
    address: str


def fetch(address: str, port: int, path: str) -> str:
    """The body of a plain HTTP GET. Raises OSError, http.client.HTTPException."""
    connection = http.client.HTTPConnection(address, port, timeout=ANSWER_BOUND)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(64 * 1024).decode("utf-8", "replace")
        if answer.status != 200:
            raise http.client.HTTPException(f"status {answer.status}: {body[:200]}")
        return body
    finally:
        connection.close()


def verify_cluster(host: Host, image: str | None) -> Iterator[str]:
    """``verify`` as a person asks for it, by default with the image of the settings' repository.
    Raises Refused, ConfigError, VerifyFailed, CommandFailed."""
    need_control_plane(host)
    settings = config.load(host).settings
    repository = settings.kubernetes.image_repository
    try:
        yield from verify(host, image or f"{repository}/{AGNHOST}", cni.chosen(settings))
    except CommandFailed as error:
        raise CommandFailed(
            error.reason, "Once `kubectl get nodes` answers, run it again."
        ) from error


def verify(host: Host, image: str, network: PodNetwork, get: Fetch = fetch) -> Iterator[str]:
    """Do it; gives a line for each part that is well. Raises VerifyFailed, CommandFailed."""
    manifest = MANIFEST.format(namespace=NAMESPACE, replicas=REPLICAS, image=image, port=PORT)
    try:
        _asked(host, lambda: kubectl.apply_text(host, manifest))
        begun = host.clock.monotonic()
        pods = replicas(host)
        took = host.clock.monotonic() - begun
        nodes = sorted({pod.node for pod in pods})
        yield f"{len(pods)} replicas are ready after {took:.0f} s, on {', '.join(nodes)}"
        if nodes == [Facts(host).node_name]:
            yield "note: there is one node only, so nothing goes across nodes"
        elif len(nodes) == 1:
            yield f"{nodes[0]} alone takes workloads: across nodes goes what this node asks them"
        yield from ways(host, pods, get, _advice(network))
        if network.policies is False:
            yield f"{network.name} enforces no NetworkPolicy, so none was tried"
        else:
            yield policy(host, pods, get, network)
    finally:
        # No exception of its own: it would hide the one that matters.
        left = host.run(
            "kubectl", "--kubeconfig", paths.ADMIN_CONF, "delete", "namespace", NAMESPACE,
            "--ignore-not-found", f"--timeout={GONE_BOUND:.0f}s", timeout=GONE_BOUND + 30,
        )  # fmt: skip
    if left.status:
        yield f"note: the namespace {NAMESPACE} is still being removed"
    else:
        yield f"everything is removed again (namespace {NAMESPACE})"


def replicas(host: Host) -> list[Pod]:
    """The pods once all are ready. Raises VerifyFailed, CommandFailed."""
    deadline = host.clock.monotonic() + READY_BOUND
    while True:
        found = _asked(host, lambda: kubectl.get(host, "pods", *SELECTED))["items"]
        stay = [item for item in found if not item["metadata"].get("deletionTimestamp")]
        ready = [_pod(item) for item in stay if is_ready(item)]
        if len(ready) == REPLICAS:
            return sorted(ready, key=lambda pod: pod.name)
        if host.clock.monotonic() >= deadline:
            raise VerifyFailed(
                f"{len(ready)} of {REPLICAS} replicas are ready after {READY_BOUND:.0f} s: "
                f"{'; '.join(sorted(filter(None, map(_why, found)))) or 'no reason was given'}.",
                "Where the image cannot be pulled, name one at hand with --image.",
            )
        host.clock.sleep(LOOK)


def ways(host: Host, pods: list[Pod], get: Fetch, advice: str) -> Iterator[str]:
    """Every way from here and between the replicas; ``advice`` is the remedy where none leads
    there. Raises VerifyFailed, CommandFailed."""

    def fetched(
        where: tuple[str, int, str], what: str, remedy: str, good: Callable[[str], bool]
    ) -> str:
        """The first good answer. A young pod, route or name may not be there at the first try."""
        for left in reversed(range(TRIES)):
            try:
                said = get(*where)
                if good(said):
                    return said.strip()
                problem = f"the answer was {said[:200].strip()}"
            except (OSError, http.client.HTTPException) as error:
                problem = f"no answer ({error})"
            if left:
                host.clock.sleep(LOOK)
        raise VerifyFailed(f"{what}: {problem}.", remedy)

    for pod in pods:
        what = f"{pod.name} on {pod.node}"
        fetched((pod.address, PORT, "/hostname"), what, advice, _names({pod.name}))
    yield f"this node reaches all {len(pods)} replicas"
    for one in pods:
        for other in pods:
            what = f"{one.node} to {other.node} ({one.name} to {other.name})"
            way = (one.address, PORT, _dial(other.address, PORT))
            fetched(way, what, advice, _names({other.name}))
    across = sum(one.node != other.node for one in pods for other in pods)
    yield f"the replicas reach each other, {across} times across nodes"
    service = _asked(host, lambda: kubectl.get(host, "service", "web", "-n", NAMESPACE))
    address = service["spec"]["clusterIP"]
    names = {pod.name for pod in pods}
    seen: set[str] = set()
    for _ in range(SPREAD):
        seen.add(fetched((address, 80, "/hostname"), f"the Service at {address}", advice, bool))
        if seen == names:
            break
    if seen != names:
        raise VerifyFailed(
            f"Through the Service at {address} only {', '.join(sorted(seen))} answered.",
            "Look at kube-proxy: kubectl -n kube-system get pods -l k8s-app=kube-proxy.",
        )
    yield f"the Service at {address} leads to all of them"
    port = service["spec"]["ports"][0]["nodePort"]
    found = _asked(host, lambda: kubectl.get(host, "nodes"))["items"]
    nodes = {node["metadata"]["name"]: _address(node) for node in found}
    for node, at in nodes.items():
        if at:
            what = f"The NodePort {port} of {node} at {at}"
            fetched((at, port, "/hostname"), what, advice, _names(names))
    away = sorted(node for node, at in nodes.items() if not at)
    yield f"the NodePort {port} answers on each of {len(nodes) - len(away)} nodes"
    if away:
        yield f"note: {', '.join(away)} is not Ready, so nothing was tried there"
    name = f"web.{NAMESPACE}.svc.cluster.local"
    for pod in pods:
        fetched(
            (pod.address, PORT, _dial(name, 80)),
            f"On {pod.node} the name {name} leads nowhere",
            "Look at the cluster's DNS: kubectl -n kube-system get pods -l k8s-app=kube-dns.",
            _names(names),
        )
    yield "the cluster's DNS knows the Service on every node"


def policy(host: Host, pods: list[Pod], get: Fetch, network: PodNetwork) -> str:
    """Whether a replica that a NetworkPolicy closes is closed to the others, and open again without
    it. Raises VerifyFailed where the pod network promises that and it is not so, CommandFailed."""
    closed, *others = pods

    def reached(one: Pod) -> bool | None:
        """None where the one that is to ask does not answer, which is no word about the other."""
        try:
            said = get(one.address, PORT, _dial(closed.address, PORT))
        except (OSError, http.client.HTTPException):
            return None
        return closed.name in _responses(said)

    def becomes(open_: bool) -> bool:
        deadline = host.clock.monotonic() + POLICY_BOUND
        while any(reached(one) is not open_ for one in others):
            if host.clock.monotonic() >= deadline:
                return False
            host.clock.sleep(LOOK)
        return True

    label = ("label", "pod", closed.name, "-n", NAMESPACE, "--overwrite", "closed=true")
    _asked(host, lambda: kubectl.call(host, *label))
    _asked(host, lambda: kubectl.apply_text(host, POLICY))
    shut = becomes(False)
    mute = next((one for one in others if not shut and reached(one) is None), None)
    _asked(host, lambda: kubectl.delete_text(host, POLICY))
    if mute:
        raise VerifyFailed(
            f"{mute.name} on {mute.node} does not answer any more, so no NetworkPolicy was tried.",
            _advice(network),
        )
    if not shut and network.policies is None:
        return "the pod network enforces no NetworkPolicy"
    if not shut:
        raise VerifyFailed(
            f"A NetworkPolicy that closes {closed.name} on {closed.node} does nothing.",
            _advice(network),
        )
    if not becomes(True):
        raise VerifyFailed(
            f"{closed.name} on {closed.node} stays closed though its NetworkPolicy is deleted.",
            _advice(network),
        )
    return "a NetworkPolicy closes a replica to the others, and without it they reach it again"


def _address(node: dict[str, Any]) -> str:
    """Of a Node that is Ready; empty for others."""
    addresses = node["status"].get("addresses", []) if is_ready(node) else []
    return next((str(a["address"]) for a in addresses if a["type"] == "InternalIP"), "")


def _names(names: set[str]) -> Callable[[str], bool]:
    """Whether an answer, of a replica or of one that asked another, is one of these."""
    return lambda said: bool(names.intersection((said.strip(), *_responses(said))))


def _advice(network: PodNetwork) -> str:
    """What to look at where a pod does not reach another."""
    space = next(iter(network.namespaces), "kube-system")
    ports = f" ({', '.join(network.ports)})" if network.ports else ""
    return (
        f"Look at the pod network: kubectl -n {space} get pods -o wide; and at firewalls between"
        f" the nodes{ports}."
    )


def _asked(host: Host, ask: Callable[[], T]) -> T:
    """What ``ask`` gives. A control plane on a small board that has just been given work leaves
    one request or another unanswered, so it is asked anew for a while. Raises CommandFailed."""
    deadline = host.clock.monotonic() + SILENCE_BOUND
    while True:
        try:
            return ask()
        except CommandFailed:
            if host.clock.monotonic() >= deadline:
                raise
            host.clock.sleep(LOOK)


def _dial(address: str, port: int) -> str:
    """Ask a replica to ask another (agnhost netexec, ``/dial``)."""
    words = {"host": address, "port": port, "request": "hostname", "protocol": "http", "tries": 1}
    return f"/dial?{urlencode(words)}"


def _responses(said: str) -> list[str]:
    try:
        return [str(one) for one in json.loads(said)["responses"]]
    except (ValueError, KeyError, TypeError):
        return []


def _pod(item: dict[str, Any]) -> Pod:
    return Pod(item["metadata"]["name"], item["spec"]["nodeName"], item["status"]["podIP"])


def _why(item: dict[str, Any]) -> str:
    """Why a pod is not ready, in the kubelet's or the scheduler's words."""
    for one in item["status"].get("containerStatuses", []):
        waiting = one["state"].get("waiting")
        if waiting:
            message = " ".join(str(waiting.get("message", "")).split())[:200]
            return f"{waiting['reason']} {message}".strip()
    for one in item["status"].get("conditions", []):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return str(one.get("message", one.get("reason", "")))[:200]
    return ""
