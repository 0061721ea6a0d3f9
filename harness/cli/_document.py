"""The documentation of all commands and flags, generated from their parsers."""

from __future__ import annotations

import argparse
import importlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from harness.cli.main import GROUPS

_PLAN = "bench"
"""The command whose flags are those of a plan; others that take a plan name their own only."""

_INTRODUCTION = """\
# All flags

Every command and each of its flags. This page is generated from the commands' own parsers
(`python -m harness.cli._document`). [What the commands are for, and how they end](commands.md).

All commands that take a plan take [the flags of a plan](#flags-of-a-plan): `bench`, `demo`, `run`,
`sweep`, `ab`, `bisect`, `history` and `doctor`. `run` knows no containers, so it has none of the
flags under *containers*.
"""


class _Found(Exception):  # noqa: N818 - it is no error
    """Carries a parser out of the command that made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return a command's parser, with all of its flags.

    Args:
        command: its name.
    """

    def print_help(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise _Found(parser)

    main = importlib.import_module(f"harness.cli.{command}").main
    with mock.patch.object(argparse.ArgumentParser, "print_help", print_help):
        try:
            main(["--help"])
        except _Found as found:
            return found.parser
    raise AssertionError(f"{command} --help prints no help")


def page() -> str:
    """Return the page as Markdown."""
    plan = parser_of(_PLAN)
    shared = {*getattr(plan, "foldable", {}), "write-plan"}
    lines = [_INTRODUCTION]
    for title, commands in GROUPS:
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        for command in commands:
            lines += [*_command(command, shared), ""]
    lines += ["## Flags of a plan", ""]
    for group in plan._action_groups:
        rows = _rows(group._group_actions, only=shared)
        if rows:
            lines += [f"### {group.title}", "", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def _command(command: str, shared: set[str]) -> Iterator[str]:
    parser = parser_of(command)
    said = parser.description or ""
    example = re.search(r"\n\nexample:\n((?:  .*\n?)+)", said)
    yield f"### harness {command}"
    yield ""
    yield (said[: example.start()] + said[example.end() :] if example else said).strip()
    if example:
        yield from ("", "```sh", textwrap.dedent(example[1]).rstrip(), "```")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for name, each in action.choices.items():
                rows = _rows(each._actions)
                yield from ("", f"**`harness {command} {name}`**: {_plain(helps.get(name))}.")
                yield from (["", *rows] if rows else [])
    rows = _rows(parser._actions, without=shared)
    yield from (["", *rows] if rows else [])


def _rows(
    actions: Sequence[argparse.Action],
    *,
    only: set[str] | None = None,
    without: set[str] = frozenset(),  # type: ignore[assignment]
) -> list[str]:
    rows = []
    for action in actions:
        names = {option.lstrip("-") for option in action.option_strings}
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        if names & without or (only is not None and not names & only):
            continue
        rows.append(f"| {_spelled(action)} | {_meaning(action)} |")
    return ["| flag | meaning |", "|---|---|", *rows] if rows else []


def _spelled(action: argparse.Action) -> str:
    """Return a flag with what it takes, as one writes it."""
    value = action.metavar or (
        f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper()
    )
    many = isinstance(action.nargs, str) and action.nargs in "+*"
    shown = value if isinstance(value, str) else " ".join(value)
    if action.nargs == 0:
        shown = ""
    elif many and not shown.endswith("..."):
        shown += "..."
    names = ", ".join(action.option_strings)
    return f"`{f'{names} {shown}'.strip()}`".replace("|", "\\|")


def _meaning(action: argparse.Action) -> str:
    text = action.help or ""
    if "%(" in text or "%%" in text:
        text = text % {**vars(action), "prog": "harness"}
    said = _plain(text.replace(" (default: )", ""))
    if action.required and action.option_strings:
        said = f"{said} (required)".strip()
    return said


def _plain(text: str | None) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([|<*_])", r"\\\1", " ".join((text or "").split()))


if __name__ == "__main__":
    print(page(), end="")
