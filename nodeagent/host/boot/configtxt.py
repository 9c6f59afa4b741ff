"""config.txt as the firmware of one board reads it in a normal boot.

Rules: raspberrypi.com/documentation, "config.txt" (what_is_config_txt.adoc, conditional.adoc);
"Edit the Raspberry Pi boot configuration" of Ubuntu's documentation: one ``name=value`` a line,
names in the right case, nothing around the ``=``, later lines win.
"""

from __future__ import annotations

import re
from collections.abc import Callable

LINE = 98  # characters of a line that the firmware reads
HEXADECIMAL = re.compile(r"[0-9a-fA-F]+")
INCLUDES = 8  # depth of ``include`` that is followed: more is a circle

# What /proc/device-tree/model says after "Raspberry Pi ", and the model filters that then apply.
# The first fitting line counts.
BOARDS = (
    ("Zero 2", "pi02 pi0"),
    ("Zero W", "pi0w pi0"),
    ("Zero", "pi0"),
    ("500", "pi500 pi5"),
    ("5 ", "pi5"),
    ("400", "pi400 pi4"),
    ("4 ", "pi4"),
    ("3 Model A Plus", "pi3+ pi3"),
    ("3 Model B Plus", "pi3+ pi3"),
    ("3 ", "pi3"),
    ("2 ", "pi2"),
    ("Compute Module 5", "cm5 pi5"),
    ("Compute Module 4S", "cm4s pi4"),
    ("Compute Module 4", "cm4 pi4"),
    ("Compute Module 3", "cm3 pi3"),
    ("Compute Module Rev", "cm1 pi1"),
    ("Model", "pi1"),
)


class ConfigTxt:
    """The settings that hold for a board.

    ``values`` are those that surely hold. ``possible`` are others that stand under filters which
    cannot be known from here (pins, displays, partitions; on an image the board itself), or in
    files whose inclusion this board's firmware may not support.
    """

    def __init__(
        self, read: Callable[[str], str | None], model: str = "", serial: str = ""
    ) -> None:
        """``read`` gives a file of the boot partition; ``model`` and ``serial`` are the device
        tree's, empty where no board is known."""
        self.values: dict[str, str] = {}
        self.possible: dict[str, list[str]] = {}
        self._read = read
        self._filters = filters(model)
        self._serial = serial
        # Raspberry Pi 5 boots by its EEPROM alone, which knows no include.
        self._includes = "pi5" not in (self._filters or ())
        # Kind of filter -> whether it applies, None for unknown. Filters of one kind replace each
        # other, different kinds add up, [all] ends them.
        self._state: dict[str, bool | None] = {}
        self._file("config.txt", INCLUDES, True)

    def _file(self, path: str, depth: int, sure: bool) -> None:
        for raw in (self._read(path) or "").removeprefix("\ufeff").splitlines():
            line = raw[:LINE].strip()
            section = re.fullmatch(r"\[(.+)\]", line)
            name, equals, value = line.partition("=")
            if section:
                self._section(section[1])
            elif False in self._state.values() or line.startswith("#"):
                continue
            elif line.startswith("include ") and depth:
                self._file(line.split(None, 1)[1], depth - 1, sure and self._includes)
            elif equals and sure and None not in self._state.values():
                self.values[name] = value
            elif equals:
                self.possible.setdefault(name, []).append(value)

    def _section(self, name: str) -> None:
        if name == "all":
            self._state.clear()
            return
        if "none" in self._state:
            self._state["none"] = None  # whether another filter ends [none] is not documented
        if name in ("none", "tryboot"):
            self._state[name] = False
        elif re.fullmatch(r"(pi|cm)\d\w*\+?", name):
            self._state["model"] = None if self._filters is None else name in self._filters
        elif HEXADECIMAL.fullmatch(name.removeprefix("0x")) and name.startswith("0x"):
            known = HEXADECIMAL.fullmatch(self._serial)
            # Shown are 16 digits, the filter takes 8: the lower half of the number.
            wanted = int(name, 16) & 0xFFFFFFFF
            self._state["serial"] = int(self._serial, 16) & 0xFFFFFFFF == wanted if known else None
        else:
            self._state[name.partition("=")[0]] = None


def filters(model: str) -> tuple[str, ...] | None:
    """The model filters that apply to a board; None where it is not known
    (conditional.adoc, "Model filters")."""
    if not model.startswith("Raspberry Pi "):
        return None
    rest = model.removeprefix("Raspberry Pi ")
    names = (names for start, names in BOARDS if rest.startswith(start))
    found = next(names, None)
    return None if found is None else tuple(found.split())
