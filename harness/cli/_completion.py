"""Answers to a shell that asks how a command line can go on."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import argcomplete


def answer(commands: Sequence[str]) -> int:
    """Tell the shell what can come next: a command, or what the command's own parser takes.

    Args:
        commands: the names of all.
    """
    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    before = line[:point].split()
    if len(before) < 2 or (len(before) == 2 and not line[:point][-1:].isspace()):
        parser = argparse.ArgumentParser(prog="harness", add_help=False)
        parser.add_argument("command", choices=commands)
        argcomplete.autocomplete(parser)
        return 0
    command = before[1]
    if command in commands:
        # What is left looks to the command's parser as if the command were the program.
        begins = line.index(command, line.index(before[0]) + len(before[0]))
        os.environ["COMP_LINE"] = line[begins:]
        os.environ["COMP_POINT"] = str(point - begins)
        argparse.ArgumentParser.parse_known_args = _asked  # type: ignore[method-assign, assignment]
        # A shell wants an answer or none, and no traceback.
        with suppress(Exception):
            importlib.import_module(f"harness.cli.{command}").main([])
    return 0


_parse = argparse.ArgumentParser.parse_known_args


def _asked(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
    """Answer, in the place of parsing; that ends the process."""
    # To answer, the parser is used in earnest.
    argparse.ArgumentParser.parse_known_args = _parse  # type: ignore[method-assign]
    argcomplete.autocomplete(parser, always_complete_options="long")
    raise SystemExit(0)
