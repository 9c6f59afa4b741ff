"""`make fuzz`: coverage-guided fuzzing of every target, SECONDS each; status 1 for any finding.

Each target runs in a process of its own (``--child``), as libFuzzer ends its process at a crash.
An input that was found is written to build/fuzz/TARGET/ and belongs into FOUND in
tests/unit/test_fuzz.py, next to the mended parser.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PLACE = CHECKOUT / "build" / "fuzz"
MEMORY = 1024  # MiB that a target may take
SLOW = 5  # seconds for one input; also on a loaded machine no parser needs them
LONGEST = 20_000  # bytes of an input; every limit of the product is below
INSTRUMENTED = ("nodeagent.fleet", "nodeagent.broker.kube_api", "nodeagent.status.model")


def child(name: str, arguments: list[str]) -> None:
    """Fuzz one target; never comes back."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS
    warnings.simplefilter("ignore")  # cryptography's, about odd certificates
    # Here, because signatures are made anew in each process.
    for number, data in enumerate(TARGETS[name].seeds):
        (PLACE / name / "corpus" / f"seed-{number}").write_bytes(data)
    run = TARGETS[name].run
    atheris.Setup([name, *arguments], run)
    atheris.Fuzz()


def fuzz(name: str, seconds: int, seed: int) -> tuple[int, int, str]:
    """Executions, covered edges, and where something was found what, and the last words."""
    place = PLACE / name
    corpus = place / "corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    arguments = [
        str(corpus), f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}",
        f"-rss_limit_mb={MEMORY}", f"-timeout={SLOW}", f"-artifact_prefix={place}/",
        "-print_final_stats=1",
    ]  # fmt: skip
    with (place / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--child", name, *arguments],
            cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    said = (place / "log").read_text(errors="replace")
    # At the end libFuzzer says `#12345 DONE cov: 321 ft: ...`, after a crash only the first.
    runs = [int(number) for number in re.findall(r"^#(\d+)\s", said, re.M)]
    edges = [int(number) for number in re.findall(r"cov: (\d+)", said)]
    why = ""
    if done.returncode:
        named = re.search(r"(?:Python exception: ===|SUMMARY:)\s*(.+)", said)
        why = f"{named[1] if named else 'It ended'}\n{said[-1500:]}"
    return max(runs, default=0), max(edges, default=0), why


def main() -> int:
    """All targets, or one."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
        return 0
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TARGETS)
    args = parser.parse_args()
    found = 0
    for name in [args.only] if args.only else TARGETS:
        runs, edges, why = fuzz(name, args.seconds, args.seed)
        found += bool(why)
        verdict = f"FOUND, see {PLACE / name}" if why else "nothing found"
        sys.stdout.write(f"{name:16} {runs:9} executions  {edges:5} edges  {verdict}\n")
        sys.stdout.write(f"{why}\n" if why else "")
        sys.stdout.flush()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
