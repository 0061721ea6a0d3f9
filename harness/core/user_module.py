"""A module of the user's, by its text: the same in every process that it is sent to."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

PIECE = 8000
"""Characters of a piece of the text in a plan."""


class UserModule(NamedTuple):
    """A module's name, and its text in pieces; without them it is one that is installed."""

    name: str
    source: tuple[str, ...]

    @staticmethod
    def pieces_of(text: str) -> tuple[str, ...]:
        """Return a text as JSON in pieces, which every reader of a manifest takes as they are."""
        plain = json.dumps(text)
        return tuple(plain[at : at + PIECE] for at in range(0, len(plain), PIECE))

    def load(self) -> ModuleType:
        """Return the module; its text is executed once in each process.

        Raises:
            ImportError: if it is not installed.
            Exception: whatever its text raises.
        """
        if not self.source:
            return importlib.import_module(self.name)
        known = sys.modules.get(self.name)
        if known is not None and getattr(known, _PIECES, None) == self.source:
            return known
        module = ModuleType(self.name)
        setattr(module, _PIECES, self.source)
        # Before its text runs, as imports do: what it pickles is looked up here.
        sys.modules[self.name] = module
        try:
            exec(compile(_joined(self.source), f"{self.name}.py", "exec"), module.__dict__)  # noqa: S102
        except BaseException:
            del sys.modules[self.name]
            raise
        return module


_PIECES = "__harness_source__"


def _joined(pieces: Iterable[str]) -> str:
    text: str = json.loads("".join(pieces))
    return text
