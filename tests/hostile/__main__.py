"""`make hostile`: every attack, then docs/security.md. Ends with status 1 where one got through."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import ssl
import sys
import time
from pathlib import Path

from tests import provenance
from tests.hostile.section import Section
from tests.support import untouched

# In the order of the report. Each module of this package has run(seed) -> Section.
PARTS: tuple[str, ...] = (
    "handshakes",
    "fuzzing",
    "enrolment",
    "raw_partitions",
    "leaving_disk",
    "sandboxes",
    "flood",
    "connections",
    "impostors",
    "load",
    "crowds",
    "fleets",
    "trust_defects",
)
CHECKOUT = Path(__file__).parents[2]
REPORT = CHECKOUT / "docs" / "security.md"
HEAD = """# What was tried against nodeagent

Written by `make hostile SEED={seed}` at commit {commit}, in {minutes:.0f} minutes on {cores} cores,
Python {python}, {openssl}. What is promised, and what is not, is in [SECURITY.md](../SECURITY.md).

"""


def main() -> int:
    """Run the parts one after the other; only a whole run writes the report."""
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=PARTS, help="one part, printed instead of written")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("make hostile makes network namespaces; run it as root.\n")
        return 2
    began, machine = time.monotonic(), untouched.look()
    sections = []
    for name in [args.only] if args.only else PARTS:
        section: Section = importlib.import_module(f"tests.hostile.{name}").run(args.seed)
        sections.append(section)
        sys.stdout.write(f"{time.monotonic() - began:7.1f}  {name}: {section.title}\n")
        sys.stdout.writelines(f"FAULT: {fault}\n" for fault in section.faults)
        sys.stdout.flush()
    text = "\n".join(section.render() for section in sections)
    if args.only:
        sys.stdout.write(text)
    else:
        head = HEAD.format(
            seed=args.seed,
            commit=provenance.named(),
            minutes=(time.monotonic() - began) / 60,
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
            openssl=ssl.OPENSSL_VERSION,
        )
        REPORT.write_text(head + text)
    left = untouched.changed(machine, untouched.look())
    sys.stdout.writelines(f"FAULT: this machine: {line}\n" for line in left)
    return 1 if left or any(section.faults for section in sections) else 0


if __name__ == "__main__":
    sys.exit(main())
