"""nodeagent(1) and nodeagent.yaml(5), in the macros of man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodeagent import __version__, paths
from nodeagent.config.settings import BOOT_FILES, DROP_INS
from nodeagent.errors import TABLE
from tests.guide import settings as table
from tests.guide.commands import visible

FILES = (
    ("/boot/firmware/nodeagent.fleet",
     "Says which fleet this card belongs to. Imported at first boot, then overwritten."),
    (f"{BOOT_FILES[0]}, {DROP_INS}/*.yaml",
     "Settings, see nodeagent.yaml(5). Every default works."),
    (paths.STATUS, "What `nodeagent status` reads."),
    ("/var/lib/nodeagent",
     "What this node must remember. Private keys in it are readable by root only."),
)  # fmt: skip


def commands() -> str:
    """nodeagent(1)."""
    return "\n".join(_commands()) + "\n"


def settings() -> str:
    """nodeagent.yaml(5)."""
    return "\n".join(_settings()) + "\n"


def _commands() -> Iterator[str]:
    about = "forms a Kubernetes cluster out of freshly flashed boards, by itself"
    yield from _head("NODEAGENT", "1", "nodeagent", about)
    yield from (".SH SYNOPSIS", ".B nodeagent", "\\fICOMMAND\\fR [\\fIARGUMENT\\fR]...")
    yield from (".SH DESCRIPTION", _text(
        "The agent runs from boot on: it prepares the system, finds the other machines of its fleet"
        " on the local network, and forms one cluster with them. People need few of these commands;"
        " `nodeagent status` is the first one."))  # fmt: skip
    yield ".SH COMMANDS"
    for one in visible():
        yield f".SS {_text(f'nodeagent {one.path} {one.usage}'.strip())}"
        yield from (_text(one.about), ".PP", _text(one.lesson.when))
        for names, text in one.options:
            yield from (".TP", f"\\fB{_text(names)}\\fR", _text(text))
        yield ".PP"
        for command, what in one.lesson.examples:
            yield from (_text(f"{what[0].upper()}{what[1:]}:"), ".PP", ".in +4n", ".nf",
                        f"\\fB{_text(command)}\\fR", ".fi", ".in", ".PP")  # fmt: skip
    yield ".SH EXIT STATUS"
    yield _text("Of `nodeagent status`: 0 ready, 1 on its way or ready with a problem, 2 needs"
                " help, 3 not running. Of others 0 where they did what was asked; an error has the"
                " exit status of its kind, after sysexits.h, and its code.")  # fmt: skip
    yield ".SH ERRORS"
    for code, known in TABLE.items():
        yield from (".TP", f"\\fB{code}\\fR", _text(f"{known.title}. {known.explanation}"))
    yield ".SH FILES"
    for name, text in FILES:
        yield from (".TP", f"\\fI{_text(name)}\\fR", _text(text))
    yield from (".SH SEE ALSO", ".BR nodeagent.yaml (5),", ".BR journalctl (1)", "with",
                ".BR \"\\-u nodeagent\" .")  # fmt: skip


def _settings() -> Iterator[str]:
    yield from _head("NODEAGENT.YAML", "5", "nodeagent.yaml", "settings of nodeagent")
    yield from (".SH SYNOPSIS", f"\\fI{_text(BOOT_FILES[0])}\\fR", ".br",
                f"\\fI{_text(DROP_INS)}/*.yaml\\fR")  # fmt: skip
    yield ".SH DESCRIPTION"
    yield _text(
        "Every setting is optional, and every default works. The file on the boot partition is "
        "read first, then the others by name; later ones win. A wrong key or value stops the "
        "agent before it changes anything, and `nodeagent status` names the file, the line and "
        "what would be right. `nodeagent config` shows each value and where it came from. Below, "
        "a dot stands for a section: `network.pod_cidr` is written as pod_cidr, indented, below "
        "network:."
    )
    yield ".SH SETTINGS"
    for group in table.groups():
        for index, key in enumerate(group.keys):
            yield ".TP" if index == 0 else ".TQ"
            yield f"\\fB{_text(key.name)}\\fR (default: {_text(key.default)})"
        yield _text(group.words)
        for right in dict.fromkeys(key.right for key in group.keys):
            yield _text(right)
    yield from (".SH EXAMPLE", ".nf", "role: auto", "expected_nodes: 4", "kubernetes:",
                '  version: "1.37"', ".fi")  # fmt: skip
    yield from (".SH SEE ALSO", ".BR nodeagent (1)")


def _head(title: str, section: str, name: str, about: str) -> Iterator[str]:
    yield '.\\" Made of the program itself by `make guide`; a test compares the two.'
    yield f'.TH {title} {section} "" "nodeagent {__version__}" ""'
    yield from (".SH NAME", f"{name} \\- {_text(about)}")


def _text(text: str) -> str:
    """As roff(7) wants it: `these` become bold, and no line of text is taken for a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    bold = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", plain)
    return f"\\&{bold}" if bold.startswith((".", "'")) else bold
