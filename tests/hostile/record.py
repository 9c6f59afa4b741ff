"""Records what a real API server answers to the broker: ``python -m tests.hostile.record``.

Writes ``recorded/apiserver.json``, which ``tests/support/apiserver_process.py`` replays. Needs the
API server and etcd that the lab built (`make lab`); runs them on loopback for about a minute.
"""

from __future__ import annotations

import base64
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from nodeagent.broker.kube_api import REQUESTS, SECRETS
from nodeagent.cluster.rest import Answer
from tests.lab.test_policy import Cluster, bootstrap, csr

TARGET = Path(__file__).parent / "recorded" / "apiserver.json"
ROUNDS = 12
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pi-1"}}


def kind(method: str, path: str) -> str:
    """Which of the broker's questions this is."""
    if path.startswith(SECRETS):
        return f"{method} secret"
    if path.startswith(REQUESTS):
        listed = path.partition("?")[0] == REQUESTS
        approval = path.endswith("/approval")
        return f"{method} " + ("requests" if listed else "approval" if approval else "request")
    return f"{method} nodes"


def main() -> None:
    """One join after the other, as the broker sees it."""
    answers: dict[str, dict[str, Any]] = {}
    times: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            policy = resources.files("nodeagent.cluster").joinpath("policy.yaml").read_text()
            cluster.kubectl("apply", "--server-side", "-f", "-", stdin=policy)
            cluster.kubectl("apply", "-f", "-", stdin=json.dumps(NODE))
            time.sleep(5)
            broker = cluster.user("nodeagent:broker")
            ask = broker._request

            def asked(method: str, path: str, body: Any = None) -> Answer:
                begin = time.monotonic()
                answer = ask(method, path, body)
                which = kind(method, path)
                times[which].append(time.monotonic() - begin)
                answers[which] = {"status": answer.status, "body": json.loads(answer.body)}
                return answer

            broker._request = asked  # type: ignore[assignment]
            for number in range(ROUNDS):
                token = f"rec{number:03d}"
                soon = datetime.now(UTC) + timedelta(minutes=10)
                broker.all_nodes()
                broker.create_token(token, "0123456789abcdef", "pi-1", soon)
                request = csr(Path(folder), "pi-1")
                status, said = bootstrap(
                    cluster, f"{token}.0123456789abcdef", "create", "-f", "-", stdin=request
                )
                assert status == 0, said
                (found,) = [r for r in broker.requests() if r.pending]
                broker.approve(found.name, found.uid, f"granted to {token}")
                broker.delete_token(token)
        finally:
            cluster.stop()
    recorded = {
        which: {**answer, "milliseconds": round(statistics.median(times[which]) * 1000, 1)}
        for which, answer in sorted(answers.items())
    }
    listed = recorded["GET requests"]["body"]
    listed["items"] = listed["items"][-1:]
    secret = recorded["POST secret"]["body"]["data"]
    secret["token-secret"] = base64.b64encode(b"x" * 16).decode()
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"{TARGET}: {len(recorded)} answers, {ROUNDS} rounds\n")


if __name__ == "__main__":
    main()
