"""The part of YAML that settings files need: sections, lists and words, each with its line.

Every word stays the text that was written; what it means is decided by the check of its key. So
``off`` is no boolean, ``1.30`` no number that loses its zero, ``1:30`` no count of seconds (all
three are in YAML 1.1, yaml.org/type), and nothing in a file can make an object or grow.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from nodeagent.errors import ConfigError

SHOWN = 60  # characters of what was read that an error repeats
STANDARD = "tag:yaml.org,2002:"
# What PyYAML takes unmarked words, lists and sections for; any other tag was written on purpose.
PLAIN = frozenset(
    STANDARD + name
    for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map")
)


@dataclass(frozen=True)
class Entry:
    """One ``key: value``: its line, and a word, None (nothing written), a list or a section."""

    line: int
    value: str | list[str | None] | dict[str, Entry] | None


def show(value: object) -> str:
    """What was read, for an error: on one line, short, without control characters."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        shown = ", ".join("" if item is None else item[:SHOWN] for item in value[:SHOWN])
        text = f"[{shown}]"
    else:
        text = str(value)
    escaped = repr(text[: SHOWN + 1])[1:-1]
    return escaped if len(escaped) <= SHOWN else f"{escaped[:SHOWN]}…"


def parse(data: bytes, path: str) -> dict[str, Entry]:
    """The entries of a file, empty where it says nothing. Raises ConfigError."""
    try:
        # utf-8-sig: editors on Windows put a byte order mark first.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text.", "Save it as UTF-8.") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(
            f"{path}, line {line}: a control character stands there.",
            "Delete the line and type it again.",
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.problem == "could not find expected ':'":  # noticed a line later
            mark = error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise ConfigError(
            f"{where}: not YAML: {show(error.problem)}.",
            "Write one `key: value` a line; indent with spaces, not tabs.",
        ) from error
    except (RecursionError, ValueError) as error:
        # ValueError: escapes and versions that no character or number belongs to.
        raise ConfigError(
            f"{path}: not YAML that settings could be.", "Write one `key: value` a line."
        ) from error
    if node is None or _is_nothing(node):
        return {}
    return _section(node, path, "")


def _section(node: yaml.Node, path: str, prefix: str) -> dict[str, Entry]:
    if not isinstance(node, yaml.MappingNode):
        below = f" below `{prefix[:-1]}`" if prefix else ""
        raise ConfigError(
            f"{path}, line {_line(node)}: `key: value` lines expected{below}.",
            "See `nodeagent config` for all keys.",
        )
    entries: dict[str, Entry] = {}
    for key, value in node.value:
        where = f"{path}, line {_line(key)}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{where}: a key is one word.", "Write `key: value`.")
        name = f"{prefix}{key.value}"
        if value.tag not in PLAIN:
            tag = show(value.tag.replace(STANDARD, "!!"))
            raise ConfigError(f"{where}: `{show(name)}` has the tag {tag}.", f"Remove {tag}.")
        if key.value in entries:
            raise ConfigError(f"{where}: `{show(name)}` stands twice.", "Keep one of them.")
        if isinstance(value, yaml.MappingNode):
            # Settings have one level of sections; a section inside a section is refused as a
            # value by its key, so that nothing here follows an alias round in a circle.
            inner = {} if prefix else _section(value, path, f"{name}.")
            entries[key.value] = Entry(_line(key), inner)
        else:
            entries[key.value] = Entry(_line(key), _words(value, f"{where}: `{show(name)}`"))
    return entries


def _words(node: yaml.Node, where: str) -> str | list[str | None] | None:
    if isinstance(node, yaml.ScalarNode):
        return _word(node)
    if any(not isinstance(item, yaml.ScalarNode) or item.tag not in PLAIN for item in node.value):
        raise ConfigError(f"{where} has more than words in its list.", "Write [word, word].")
    return [_word(item) for item in node.value]


def _word(node: yaml.ScalarNode) -> str | None:
    return None if _is_nothing(node) else str(node.value)


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{STANDARD}null"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
