"""A short coverage-guided run over every parser of bytes from the network."""

from __future__ import annotations

import importlib.util

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS
from tests.hostile.section import Section

SECONDS = 4  # each; `make fuzz SECONDS=60` goes on for longer


def run(seed: int) -> Section:
    """Fuzz each target for a few seconds; a finding is a fault."""
    title = "Fuzzing"
    if importlib.util.find_spec("atheris") is None:
        return Section(
            title, "Not done.",
            faults=("atheris is missing, so nothing was fuzzed; `make fuzz` installs it",),
        )  # fmt: skip
    rows, faults = [], []
    for name, target in TARGETS.items():
        runs, edges, why = fuzz(name, SECONDS, seed)
        what = " ".join((target.run.__doc__ or "").split()).rstrip(".")
        rows.append((f"`{name}`", what, str(runs), str(edges), "found" if why else "nothing"))
        if why:
            faults.append(f"{name}: {why.splitlines()[0]}; build/fuzz/{name} has the rest")
        elif not runs:
            faults.append(f"{name} was not run at all; see build/fuzz/{name}/log")
    return Section(
        title,
        f"libFuzzer (atheris), {SECONDS} seconds for each parser, beginning with real messages. "
        "Any exception but the documented one, any forged message that is believed, 5 seconds "
        "for one input, or 1 GiB of memory is a finding. Executions depend on the machine.",
        ("parser", "what is tried", "executions", "edges", "found"),
        tuple(rows),
        tuple(faults),
    )
