"""`make guide`: write what is made of the program, and say what changed."""

from __future__ import annotations

import sys

from tests.guide import CHECKOUT, FILES

for name, made in FILES.items():
    path, text = CHECKOUT / name, made()
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"{name}\n")
