"""kubectl as root uses it for the list of revoked nodes: a double that keeps the list and nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nodeagent.host.host import Result

ADMIN = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
LIST = ("configmap", "nodeagent-revoked", "-n", "kube-system")


class Kubectl:
    """Call it as ``Host``'s runner. ``leading``: names of control planes."""

    def __init__(self, *leading: str) -> None:
        self.leading = leading
        self.list: dict[str, Any] = {"metadata": {}, "data": {}}
        self.deleted: list[str] = []
        self.down = False
        self.tokens: list[dict[str, Any]] = []  # Secrets of bootstrap tokens

    @property
    def barred(self) -> list[str]:
        """Names on the list."""
        return sorted(self.list.get("data") or {})

    def __call__(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        words = tuple(argv[3:])
        if tuple(argv[:3]) != ADMIN:
            return Result(127, "", "not found")
        if self.down:
            return Result(1, "", "The API server is away.")
        if words[:3] == ("get", "nodes", "-l"):
            items = [{"metadata": {"name": name}} for name in self.leading]
            return Result(0, json.dumps({"items": items}))
        if words[:2] == ("get", "secrets"):
            return Result(0, json.dumps({"items": self.tokens}))
        if words[:5] == ("get", *LIST):
            return Result(0, json.dumps(self.list))
        if words[:5] == ("patch", *LIST):
            return self._patch(json.loads(words[-1]))
        if words[:2] == ("replace", "--force"):
            self.list = json.loads(stdin or "")
            return Result(0, "")
        if words[:2] == ("delete", "node"):
            self.deleted += words[3:]
            return Result(0, "")
        return Result(1, "", f"kubectl {words}")

    def _patch(self, change: dict[str, Any]) -> Result:
        if self.list.get("immutable") and "data" in change:
            return Result(1, "", "field is immutable when `immutable` is set")
        for part, values in change.items():
            held = self.list.setdefault(part, {})
            for name, value in values.items():
                held.pop(name, None) if value is None else held.update({name: value})
        return Result(0, "")
