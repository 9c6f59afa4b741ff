"""`make guide`: write what is made of the program, and say what changed."""

from __future__ import annotations

import shutil
import sys

from tests.guide import CHECKOUT, FILES
from tests.guide.captures import FOLDER, PICTURES

for name, made in FILES.items():
    path, text = CHECKOUT / name, made()
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"{name}\n")

for name in PICTURES:
    taken, kept = (CHECKOUT / place / name for place in ("build/screenshots", f"docs/{FOLDER}"))
    if taken.exists():  # after `make test`; the clock on them differs each time
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(taken, kept)
