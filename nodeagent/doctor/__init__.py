"""``nodeagent doctor``: every fact that the agent relies on, as findings.

A check is a function from what is seen of a node to a verdict; a step's own plan is the check of
what the step holds, so that nothing is known twice. Nothing is ever changed, and a check that
fails becomes a finding ``unknown``. Before, while and after the cluster forms; as an ordinary
user what cannot be seen is ``unknown`` with "needs root".

``nodeagent doctor --json``, schema version 1::

    {"version": 1,
     "node": "pi-4f2a1c",            host name
     "time": 1795000000.0,           seconds since the epoch
     "level": "warning",             the worst of the findings, unknown apart
     "findings": [
       {"name": "page-size",         short, stable, unique
        "group": "Board",            Board, Disk, System, Network, Software, Fleet, Cluster
        "level": "warning",          pass, warning, failure, unknown
        "value": "16 KiB",           what was found, a few words
        "why": "...",                why it matters, a sentence or two
        "remedy": "..."}]}           what to do; empty for pass

Exit codes, as those of ``nodeagent status``: 0 all pass, 1 warnings, 2 failures. Unknown ones do
not count.
"""

from __future__ import annotations

from nodeagent.doctor.checkup import examine
from nodeagent.doctor.finding import Finding, exit_code
from nodeagent.doctor.render import as_json, as_text

__all__ = ["Finding", "as_json", "as_text", "examine", "exit_code"]
