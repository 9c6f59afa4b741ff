"""What MkDocs is told beside mkdocs.yml (MkDocs, "User Guide", hooks): the menu, of pages that are
there; and links to files of the repository that are no pages, which become their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[2] / "mkdocs.yml"


def on_config(config: Any) -> Any:
    """Take what is not there out of the menu."""
    config.nav = there(config.nav, Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change the links of one page."""
    return inside(markdown, Path(page.file.src_uri).parent)


def menu() -> list[Any]:
    """The menu as mkdocs.yml has it."""
    return list(yaml.safe_load(CONFIG.read_text())["nav"])


def there(entries: list[Any], docs: Path) -> list[Any]:
    """A menu without pages that are not there: some are written by long runs."""
    kept = []
    for entry in entries:
        ((title, below),) = entry.items()
        if isinstance(below, list):
            kept.append({title: there(below, docs)})
        elif (docs / below).exists():
            kept.append(entry)
    return kept


def listed(entries: list[Any]) -> Iterator[str]:
    """The pages of a menu."""
    for entry in entries:
        for below in entry.values():
            yield from listed(below) if isinstance(below, list) else [below]


def inside(markdown: str, folder: Path) -> str:
    """``[text](../x)`` out of the documentation as text and the file's name."""

    def shown(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        parts = [*folder.parts]
        for part in Path(target.partition("#")[0]).parts:
            if part != "..":
                parts.append(part)
            elif parts:
                parts.pop()
            else:  # above docs/
                name = target.partition("#")[0].lstrip("./")
                return (
                    f"`{name}`"
                    if text in (name, Path(name).name, Path(name).stem)
                    else f"{text} (`{name}`)"
                )
        return match[0]

    return re.sub(r"\[([^\]]+)\]\(((?!\w+:)[^)\s]+)\)", shown, markdown)
