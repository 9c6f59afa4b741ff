"""What the documents quote of the lab's records. A figure is quoted as the text of a link to its
record, ``[556 s](docs/results.md#default)``; that is how these tests find it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import provenance
from tests.guide import CHECKOUT, records
from tests.guide.records import Record
from tests.unit.test_guide import TEXTS

RECORDS = records.load()
LINK = re.compile(r"\[([^\]]+)\]\([^)\s]*results\.md#([\w-]+)\)")
# What only a measurement can say. Limits and settings are told in MiB, minutes and hours.
MEASURED = re.compile(r"\b\d[\d.,]* ?(?:s|ms|seconds|MB|kB|times)\b")
# Pages on which every figure that was measured must be quoted so.
STRICT = ("README.md", "docs/index.md", "docs/tutorial.md", "docs/glossary.md")


def quoted(text: str) -> Iterator[tuple[str, str, str]]:
    """Text of the link, record and paragraph of each figure that a page quotes."""
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[*-] )", text):
        for shown, name in LINK.findall(paragraph):
            if records.numbers(shown):
                yield shown, name, " ".join(paragraph.split())


QUOTES = [
    (path, *quote)
    for path in TEXTS
    if path != CHECKOUT / "docs" / "results.md"
    for quote in quoted(path.read_text())
]


def faults(shown: str, record: Record | None, paragraph: str, behind: bool) -> str:
    """What is wrong with a quoted figure; nothing where all is well."""
    if record is None:
        return "there is no such record"
    if unknown := set(records.numbers(shown)) - record.figures:
        return f"not in the record: {', '.join(sorted(unknown))}"
    if not record.commit or not behind:
        return "the record names no commit that this code has come from"
    if not record.clean:
        return "the record is of a checkout with changes that were not committed"
    if untold := [name for name in record.failed if name not in paragraph]:
        return f"this check failed, and the paragraph does not say so: {', '.join(untold)}"
    return ""


@pytest.mark.processes
@pytest.mark.parametrize(("path", "shown", "name", "paragraph"), QUOTES)
def test_a_quoted_figure_is_in_a_record_of_a_commit(
    path: Path, shown: str, name: str, paragraph: str
) -> None:
    record = RECORDS.get(name)
    behind = record is not None and provenance.is_behind(record.commit)
    found = faults(shown, record, paragraph, behind)
    assert not found, f"{path.name}, {shown}, record {name}: {found}"


GOOD = {"commit": "0c0e710", "clean": True, "nodes": {"node1": {"total": 541.6}},
        "measured": {"s": "1,556"}, "checks": {"web": [True, "3 replicas in 86 s"]}}  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "change", "paragraph", "behind", "found"),
    [
        ("1556 s, of which 541.6 s", {}, "", True, ""),
        ("542 s for 3 replicas", {}, "", True, ""),
        ("541 s", {}, "", True, "not in the record: 541"),
        ("86 s", {"commit": ""}, "", True, "names no commit"),
        ("86 s", {}, "", False, "names no commit"),
        ("86 s", {"clean": False}, "", True, "not committed"),
        ("86 s", {"commit": "0c0e710-dirty", "clean": None}, "", True, "not committed"),
        ("86 s", {"checks": {"web": [False, "86"]}}, "It took 86 s.", True, "does not say so: web"),
        ("86 s", {"checks": {"web": [False, "86"]}}, "86 s; web failed.", True, ""),
    ],
)
def test_what_may_not_be_quoted(
    shown: str, change: dict[str, object], paragraph: str, behind: bool, found: str
) -> None:
    data = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    said = faults(shown, Record("x", data), paragraph, behind)
    assert found in said and bool(found) == bool(said)
    assert faults(shown, None, paragraph, behind) == "there is no such record"


@pytest.mark.parametrize("name", STRICT)
def test_no_figure_stands_without_its_record(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", (CHECKOUT / name).read_text(), flags=re.DOTALL | re.M)
    loose = MEASURED.findall(LINK.sub("", text))
    assert not loose, f"{name}: quote a record, [FIGURE](…results.md#NAME), or leave out {loose}"
