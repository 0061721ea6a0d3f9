"""The commands' parser: examples first, all that is missing at once, a word that was meant."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from harness.core import parser as core
from harness.core.errors import UsageError
from harness.core.text import listed

_WIDTH = 78
_Needed = Callable[[Sequence[str]], Sequence[str]]


class Parser(core.Parser):
    """A parser of one command.

    Args:
        example: one command line that works, shown above the flags.
        needed: gives, for the words of a command line, the flags that are required, although the
            parser takes a command line without them.
        more: as argparse has it.
    """

    def __init__(self, *, example: str = "", needed: _Needed | None = None, **more: Any) -> None:
        if example:
            said = _filled(more.get("description") or "")
            more["description"] = f"{said}\n\nexample:\n  {example}"
            more["formatter_class"] = argparse.RawDescriptionHelpFormatter
            more["epilog"] = _filled(more.get("epilog") or "")
        super().__init__(**{"allow_abbrev": False} | more)
        self._needed = needed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and name all flags that are missing at once."""
        words = {word.partition("=")[0] for word in args or ()}
        missing = [flag for flag in self._required(args or ()) if flag not in words]
        asked = words & {"-h", "--help"} or "_ARGCOMPLETE" in os.environ
        if len(missing) > 1 and not asked:
            raise UsageError(
                f"{listed(missing)} are missing (see '{self.prog} --help' for what they mean)"
            )
        return super().parse_known_args(args, namespace)

    def _required(self, words: Sequence[str]) -> list[str]:
        flags = [a.option_strings[-1] for a in self._actions if a.required and a.option_strings]
        return [*flags, *(self._needed(words) if self._needed else ())]

    def error(self, message: str) -> Any:
        """Raise the message as a usage error, with what was probably meant."""
        return super().error(message + self._meant(message))

    def _meant(self, message: str) -> str:
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            return meant(unknown[1].partition("=")[0], known)
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        return meant(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""


def _filled(text: str) -> str:
    """Return text whose paragraphs are no wider than a small terminal."""
    return "\n\n".join(
        textwrap.fill(paragraph, _WIDTH, break_on_hyphens=False) for paragraph in text.split("\n\n")
    )


def meant(word: str, known: Sequence[str]) -> str:
    """Return ``: did you mean ...?`` for the known word that is most alike; else nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {near[0]}?" if near else ""
