"""The status as OpenMetrics 1.0 text (the OpenMetrics specification, "Text Format"), for
Prometheus and whatever else reads it, at ``/metrics`` of the status page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from nodeagent.errors import OtherVersion
from nodeagent.status import model

if TYPE_CHECKING:
    from nodeagent.status import schema

KIND = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Sample = tuple[Mapping[str, object], float]


def render(data: bytes | None, now: float) -> bytes:
    """The metrics for a status file's content; ``now`` in seconds since the epoch."""
    lines: list[str] = []
    try:
        lines += _lines(model.parse(data or b""), now)
    except (ValueError, KeyError, TypeError, AttributeError, OtherVersion):
        lines = ["# TYPE nodeagent_up gauge", "nodeagent_up 0"]
    return ("\n".join([*lines, "# EOF"]) + "\n").encode()


def _lines(status: schema.Status, now: float) -> Iterable[str]:
    info = {"node": status["node_name"], "role": status["role"], **status["versions"]}
    yield from _metric("nodeagent_up", "gauge", "1 while there is a status.", [({}, 1)])
    yield from _metric("nodeagent_info", "gauge", "What is installed; always 1.", [(info, 1)])
    yield from _metric(
        "nodeagent_phase", "stateset", "Where the node stands.",
        [({"nodeagent_phase": one}, one == status["phase"]) for one in model.PHASES],
    )  # fmt: skip
    yield from _metric(
        "nodeagent_phase_since_timestamp_seconds", "gauge", "When the phase began.",
        [({}, status["since"])], "seconds",
    )  # fmt: skip
    yield from _metric(
        "nodeagent_phase_duration_seconds", "gauge", "How long each phase took in this boot.",
        [({"name": name}, took) for name, took in _durations(status, now).items()], "seconds",
    )  # fmt: skip
    yield from _metric(
        "nodeagent_step_duration_seconds", "gauge", "How long each step of the preparation took.",
        [({"step": one["name"]}, float(one["seconds"])) for one in status["steps"]], "seconds",
    )  # fmt: skip
    error = status["error"]
    yield from _metric(
        "nodeagent_error", "gauge", "1 for the error that holds the node up.",
        [({"code": error["code"]}, 1)] if error else [],
    )  # fmt: skip
    yield from _metric(
        "nodeagent_hardware_warning", "gauge", "1 for what is not well with board or disk.",
        [({"name": one["name"], "level": one["level"]}, 1) for one in status["hardware"]],
    )  # fmt: skip
    yield from _metric(
        "nodeagent_certificate_expiry_timestamp_seconds", "gauge", "When a certificate ends.",
        [({"name": one["name"]}, one["expires"]) for one in status["certificates"]], "seconds",
    )  # fmt: skip
    yield from _metric(
        "nodeagent_join_tokens", "gauge", "Join tokens that are outstanding.",
        [({}, sum(one["expires"] > now for one in status["tokens"]))],
    )  # fmt: skip
    yield from _metric(
        "nodeagent_approvals_pending", "gauge", "Nodes that wait to be approved.",
        [({}, len(status["approvals"]))],
    )  # fmt: skip
    yield from _metric(
        "nodeagent_peer_heard_timestamp_seconds", "gauge", "When another node was last heard.",
        [({"node_id": one["node_id"], "node": one["name"], "peer_phase": one["phase"]},
          one["heard"]) for one in status["peers"]], "seconds",
    )  # fmt: skip


def _durations(status: schema.Status, now: float) -> dict[str, float]:
    """Seconds in each phase of this boot; a phase that came twice is added up."""
    found: dict[str, float] = {}
    ends = [*(one["at"] for one in status["phases"][1:]), now]
    for one, end in zip(status["phases"], ends, strict=False):  # none yet: no phase, one end
        found[one["phase"]] = found.get(one["phase"], 0.0) + max(0.0, end - one["at"])
    return found


def _metric(
    name: str, kind: str, text: str, samples: Iterable[Sample], unit: str = ""
) -> Iterable[str]:
    samples = list(samples)
    if samples:
        yield f"# TYPE {name} {kind}"
        if unit:
            yield f"# UNIT {name} {unit}"
        yield f"# HELP {name} {text}"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(str(one))}"' for key, one in labels.items())
        yield f"{name}{{{inside}}} {float(value):.10g}" if inside else f"{name} {float(value):.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
