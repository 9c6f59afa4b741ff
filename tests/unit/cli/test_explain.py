"""`nodeagent explain`: every code, however it is typed."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.errors import TABLE, Usage


@pytest.mark.parametrize("code", TABLE)
def test_a_code_however_it_is_typed(code: str) -> None:
    said = {CliRunner().invoke(main, ["explain", word]).output
            for word in (code, code.lower(), code[1:])}  # fmt: skip
    (text,) = said
    assert text.startswith(f"{code}: {TABLE[code].title}\n")
    assert max(map(len, text.splitlines())) <= 80 and text.isascii()


def test_all_codes_are_listed() -> None:
    lines = CliRunner().invoke(main, ["explain"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list(TABLE)


@pytest.mark.parametrize("word", ["", "E", "E42", "EE100", "E1000", "\x1b[2J"])
def test_what_is_no_code(word: str) -> None:
    done = CliRunner().invoke(main, ["explain", word])
    assert done.exit_code == Usage.exit_code
    assert "There is no error code" in done.output and "\x1b" not in done.output
