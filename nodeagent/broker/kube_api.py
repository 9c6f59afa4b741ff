"""The Kubernetes API as the broker uses it: bootstrap tokens, certificate requests, nodes."""

from __future__ import annotations

import base64
import functools
import http.client
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from nodeagent.broker.kube_api_protocol import Seen, SigningRequest
from nodeagent.cluster import rest
from nodeagent.cluster.rest import GROUP, LEADS, SIGNER, safe_name
from nodeagent.errors import CommandFailed

T = TypeVar("T")

SECRETS = "/api/v1/namespaces/kube-system/secrets"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
PAGE = 200  # objects in one answer, fewer where they are large
# Bytes of one page. An object may have 1.5 MB (etcd's limit of a request), and whoever holds a
# kubelet's certificate may make its own as large; a page of one always fits.
PAGE_BYTES = 2 * 1024 * 1024
MOST_PAGES = 2000
LONGEST = 16 * 1024  # of a certificate request in base64; a kubelet's has 600


class Api:
    """One API server, ``server`` as ``https://NAME:PORT``, or an address; the files are PEM."""

    def __init__(self, server: str, ca_file: str, cert_file: str, key_file: str) -> None:
        where = urlsplit(server)
        at = where.hostname or "", where.port or 443
        self._request = functools.partial(rest.request, at, (ca_file, cert_file, key_file))

    def create_token(self, token_id: str, secret: str, node_name: str, expires: datetime) -> None:
        """A bootstrap token that can only authenticate (kubernetes.io, "Authenticating with
        Bootstrap Tokens"). Raises CommandFailed."""
        data = {
            "token-id": token_id,
            "token-secret": secret,
            "expiration": expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": GROUP,
            "description": f"nodeagent grant for {node_name}",
        }
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": _token_name(token_id), "namespace": "kube-system"},
            "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
        }
        self._call("POST", SECRETS, body, accept=(201, 409))

    def delete_token(self, token_id: str) -> None:
        """Delete a token; one that is gone is no error. Raises CommandFailed."""
        self._call("DELETE", f"{SECRETS}/{_token_name(token_id)}", accept=(200, 202, 404))

    def requests(self) -> list[SigningRequest]:
        """Certificate requests of node clients, all of them. Raises CommandFailed."""
        return self._all(f"{REQUESTS}?fieldSelector=spec.signerName={SIGNER}", _request)

    def approve(self, name: str, uid: str, reason: str) -> None:
        """Approve one request. Raises CommandFailed, also where another one stands under its name
        by now: what it asks for never changes (kubernetes.io, "Certificate Signing Requests"), but
        a name can be used again."""
        self._decide("Approved", name, uid, reason)

    def deny(self, name: str, uid: str, reason: str) -> None:
        """Deny one request, which is removed an hour later instead of a day (kubernetes.io,
        "Certificate Signing Requests"). Raises as ``approve``."""
        self._decide("Denied", name, uid, reason)

    def _decide(self, verdict: str, name: str, uid: str, reason: str) -> None:
        path = f"{REQUESTS}/{safe_name(name)}"
        item = self._call("GET", path)
        if item["metadata"].get("uid") != uid:
            raise CommandFailed(
                f"The certificate request {name} is not the one that was looked at.",
                "Nothing was decided; it is looked at again by itself.",
            )
        condition = {
            "type": verdict,
            "status": "True",
            "reason": "NodeAgentGrant" if verdict == "Approved" else "NodeAgentStray",
            "message": reason,
        }
        item.setdefault("status", {}).setdefault("conditions", []).append(condition)
        # The item's resourceVersion makes this fail where it changed meanwhile.
        self._call("PUT", f"{path}/approval", item)

    def all_nodes(self) -> dict[str, Seen]:
        """Every node of the cluster by name, to the last. Raises CommandFailed."""
        return dict(self._all("/api/v1/nodes", _node))

    def delete_node(self, name: str, uid: str = "") -> None:
        """Delete a Node object; one that is gone is no error, nor with ``uid`` that another one has
        its name by now (kubernetes.io, API reference, DeleteOptions, preconditions). Raises
        CommandFailed."""
        body = {"preconditions": {"uid": uid}} if uid else None
        gone = (404, 409) if uid else (404,)
        self._call("DELETE", f"/api/v1/nodes/{safe_name(name)}", body, accept=(200, 202, *gone))

    def _all(self, path: str, parse: Callable[[Any], T]) -> list[T]:
        """Every object of a list, page after page (kubernetes.io, "API Concepts", Retrieving large
        results sets in chunks). Raises CommandFailed, also where the list does not end: what was
        not shown would count as not there."""
        found: list[T] = []
        size, more, mark = PAGE, "", "&" if "?" in path else "?"
        for _ in range(MOST_PAGES):
            asked = f"{path}{mark}limit={size}{more}"
            try:
                answer = self._call("GET", asked, most=PAGE_BYTES if size > 1 else rest.MAX_BYTES)
            except _TooLong:
                if size == 1:
                    break
                size = max(size // 4, 1)  # ``continue`` holds the place only
                continue
            items, token = _read(functools.partial(_page, answer, parse))
            found += items
            if not token:
                return found
            size, more = PAGE, f"&continue={quote(token, safe='')}"
        raise CommandFailed(
            f"The API server's list of {path.split('?')[0]} is too long to be read to its end.",
            "Nobody is let in until it does; see who made so many objects.",
        )

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        accept: tuple[int, ...] = (200,),
        most: int = rest.MAX_BYTES,
    ) -> Any:
        try:
            answer = self._request(method, path, body)
            if len(answer.body) >= most:
                raise _TooLong
            if answer.status in accept:
                value = json.loads(answer.body)
                if isinstance(value, dict):
                    return value
                said = "something that is not an object"
            else:
                # The body may repeat what was sent, a token among it: only status and reason.
                said = f"status {answer.status} {answer.reason}"
        except (OSError, http.client.HTTPException) as error:
            said = type(error).__name__
        except (ValueError, RecursionError):
            said = "something that is not JSON"
        raise CommandFailed(
            f"The API server answered {method} {path.split('?')[0]} with {said}.",
            "It is tried again by itself; see `kubectl get --raw /readyz` on the control plane.",
        )


class _TooLong(Exception):
    """A page has more bytes than are read at once."""


def _read(parse: Callable[[], T]) -> T:
    """What ``parse`` finds in an answer. Raises CommandFailed where it is of another shape."""
    try:
        return parse()
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise CommandFailed(
            "The API server's answer was not understood.",
            "It is tried again by itself; see that its version is one that was tested.",
        ) from error


def _page(answer: Any, parse: Callable[[Any], T]) -> tuple[list[T], str]:
    """What is on a page, and the token of the next one, empty for the last."""
    token = answer.get("metadata", {}).get("continue", "")
    return [parse(item) for item in answer["items"]], str(token)


def _token_name(token_id: str) -> str:
    return f"bootstrap-token-{safe_name(token_id)}"


def _node(item: dict[str, Any]) -> tuple[str, Seen]:
    meta = item["metadata"]
    leads = LEADS in meta.get("labels", {})
    seen = Seen(rest.is_ready(item), str(meta.get("uid", "")), leads, rest.ready_since(item))
    return meta["name"], seen


def _request(item: dict[str, Any]) -> SigningRequest:
    spec = item["spec"]
    return SigningRequest(
        name=item["metadata"]["name"],
        uid=item["metadata"].get("uid", ""),
        username=spec.get("username", ""),
        groups=tuple(spec.get("groups", ())),
        signer=spec["signerName"],
        usages=tuple(spec.get("usages", ())),
        csr_pem=base64.b64decode(spec["request"]) if len(spec["request"]) < LONGEST else b"",
        pending=not (said := item.get("status", {}).get("conditions")),
        approved=any(one["type"] == "Approved" for one in said or ()),
        created=item["metadata"].get("creationTimestamp", ""),
    )
