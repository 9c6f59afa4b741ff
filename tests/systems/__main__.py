"""Run every cell and write down what came of it: ``python -m tests.systems [PART OF A NAME]``."""

from __future__ import annotations

import json
import shutil
import sys

from tests.lab.place import say
from tests.systems import cells, units
from tests.systems.cells import RECORD, UNREACHED
from tests.systems.unpacked import BUILD, FAILED, PROGRAMS, RELEASES, version


def main(part: str) -> int:
    """The number of cells that neither installed the agent nor were refused."""
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record["versions"] = {r: {p: version(r, p) for p in PROGRAMS} for r in RELEASES}
    record["units"] = {release: units.look(release) for release in RELEASES}
    there = record.get("cells", {})
    record["cells"] = found = {name: there[name] for name, *_ in cells.rows() if name in there}
    for name, system, journey in cells.rows():
        boots = {}
        for release in system.releases:
            known = there.get(name, {}).get("boots", {})
            if part not in name and release in known:
                boots[release] = known[release]
                continue
            where = BUILD / "board"
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir()
            boots[release] = cells.run(system, journey, release, where)
            say(f"{name} ({release}): {'; '.join(boots[release])}")
        found[name] = {"seeded": cells.seeded_line(system.layout), "boots": boots}
        RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    bad = [n for n, c in found.items() if not all(ends_well(n, b) for b in c["boots"].values())]
    say(f"{len(found)} cells, {len(bad)} of them bad: {bad}")
    return len(bad)


def ends_well(name: str, boots: list[str]) -> bool:
    """Installed once, then nothing more; or refused. ``name`` of the cell."""
    if boots[0].startswith("refused: "):
        return True
    bad, usual = ("failed by", FAILED) if name == UNREACHED else ("failed", "usual")
    if any(bad in boot for boot in boots):
        return False
    last = [boot.split(", ")[-1] for boot in boots]
    return last.count("installed") == 1 and last[-1] == usual


if __name__ == "__main__":
    sys.exit(bool(main(" ".join(sys.argv[1:]))))
