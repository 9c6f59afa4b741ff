"""A status with everything in it, and the schema that each must fit."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from nodeagent.status import model, schema

SCHEMA = json.loads((Path(model.__file__).parent / "status.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(
    # Strict here: a key that the schema does not know is a fault of the agent's, not of a reader.
    {**SCHEMA, "additionalProperties": False}
)
FULL: schema.Status = {
    **model.empty(),
    "phase": "failed",
    "since": 1000.0,
    "node_name": "pi-0a1b2c",
    "role": "worker",
    "role_why": "pi-1 is the control plane. " * 4,
    "detail": "Install the packages: run apt-get install " + "kubelet=1.37.2-1.1 " * 30,
    "progress": {"kind": "packages", "text": "unpacking kubelet", "done": 3, "total": 12},
    "waiting": {"for": "An answer.", "until": 1100.0},
    "certificates": [{"name": "/x/" + "y" * 60, "expires": 2000.0, "renewal": "automatic"}],
    "tokens": [{"name": "pi-" + "z" * 60, "expires": 1500.0}],
    "approval": "ABCD-EFGH-JKLM-NPQR",
    "approvals": [{"id": "ABCDEFGH", "name": "pi-9", "address": "10.0.0.9", "since": 900.0}],
    "hardware": [{"name": "power", "level": "failure", "text": "low " * 30, "remedy": "Cable. "}],
    "error": {"code": "E105", "reason": "No mirror " + "x" * 300, "remedy": "Look \x1b[31m at it."},
    "notes": ["A note. " * 20],
    "peers": [{"node_id": "n-a", "name": "n" * 64, "phase": "initialising", "since": 1.0,
               "role": "control-plane", "address": "255.255.255.255", "heard": 2.0}],
}  # fmt: skip
