"""The page of all flags is that of this code."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.cli import _document, main


def test_the_page_is_current() -> None:
    page = Path(harness.__file__).parent.parent / "docs" / "flags.md"
    assert page.read_text(encoding="utf-8") == _document.page(), (
        "run python -m harness.cli._document > docs/flags.md"
    )


@pytest.mark.parametrize("command", main._commands())
def test_it_has_every_flag_of_every_command(command: str) -> None:
    page = _document.page()
    assert f"### harness {command}\n" in page
    options = [
        option
        for action in _document.parser_of(command)._actions
        for option in action.option_strings
        if option not in ("-h", "--help")
    ]
    assert all(f"{option}`" in page or f"{option} " in page for option in options)
    assert [option for option in options if not option.startswith("-")] == []


def test_a_flag_is_told_with_its_value_and_its_meaning() -> None:
    page = _document.page()
    assert "| `--repeat N` | runs of each mode (default: 1) |\n" in page
    assert page.count("`--repeat N`") == 1, "flags of a plan are told once"
    assert "(default: )" not in page
