"""The argument parser of all commands; imports nothing, so that light commands stay fast."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

from harness.core.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line (exit code 2).

    Attributes:
        foldable: the flags that a file may hold, by their names without dashes in front.
        unfold: takes a command line, and returns the one that it stands for and who names the place
            of a fault; None where every word stands for itself.
    """

    foldable: Mapping[str, argparse.Action] = MappingProxyType({})
    unfold: Callable[[Sequence[str]], tuple[list[str], AbstractContextManager[None]]] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, once the command line is unfolded."""
        if self.unfold is None or args is None:
            return super().parse_known_args(args, namespace)
        words, named = self.unfold(args)
        with named:
            return super().parse_known_args(words, namespace)

    def error(self, message: str) -> Any:
        """Raise the message as a usage error instead of printing the whole usage."""
        raise UsageError(f"{message} (see '{self.prog} --help')")


def share(text: str) -> float:
    """Parse a share, the same for all commands: ``5%`` or ``0.05``.

    A number of 1 or more may be meant either way: it needs its ``%``.

    Raises:
        argparse.ArgumentTypeError: if it is neither.
    """
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = -1
    if not 0 <= value < (math.inf if percent else 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: write 5% or 0.05")
    return value
