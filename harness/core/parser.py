"""The argument parser of all commands; imports nothing, so that light commands stay fast."""

from __future__ import annotations

import argparse
from typing import Any

from harness.core.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line (exit code 2)."""

    def error(self, message: str) -> Any:
        """Raise the message as a usage error instead of printing the whole usage."""
        raise UsageError(f"{message} (see '{self.prog} --help')")
