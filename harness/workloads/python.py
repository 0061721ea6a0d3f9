"""A function of the user's own: it gets a client, and submits what it likes.

Its module's text is part of the plan: so it is in the run directory and in a bundle, and reaches
all containers. A module that is not a file here must be installed there (``--stack``).
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator

from harness.core.errors import UsageError
from harness.core.flags import from_args
from harness.core.text import one_line
from harness.core.user_module import PIECE, UserModule
from harness.plan.graph import Graph
from harness.plan.workload import Mode, Workload, workloads
from harness.workloads._flag import WORKFLOW

_MOST_BYTES = 2**20
_SHOWN = 200
_WORD = re.compile(r"(?P<module>[^:]+):(?P<function>[A-Za-z_][A-Za-z0-9_]*)")
_MODES = (Mode.NONE, Mode.DEFAULT_PROXY, Mode.MANUAL_PROXY, Mode.OWNED_PROXY)
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


@workloads.register("python")
class Python(Workload):
    """Options of a function of the user's own."""

    name = "python"
    sizes_flag = "--workflow: an object of bytes:"

    workflow: Annotated[str, WORKFLOW] = Field(max_length=500)
    sha256: str = Field(default="", max_length=64)
    """Of the module's text; no flag says so."""
    source: tuple[Annotated[str, Field(max_length=PIECE)], ...] = Field(default=(), max_length=1000)
    """The module's text in pieces, nothing for one that is installed; no flag says so."""

    @field_validator("workflow")
    @classmethod
    def _names_a_function(cls, word: str) -> str:
        found = _WORD.fullmatch(word)
        if found is None or not _MODULE.fullmatch(found["module"]):
            raise ValueError(f"{word[:_SHOWN]!r} is not MODULE:FUNCTION, such as train:main")
        return word

    @field_validator("modes")
    @classmethod
    def _client_knows(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        other = next((mode for mode in modes if mode not in _MODES), None)
        if other is not None:
            raise ValueError(f"--workload python has no mode {other}: {', '.join(_MODES)}")
        return modes

    @classmethod
    def from_flags(cls, args: Mapping[str, Any]) -> Self:
        """Read the module, if it is a file here.

        Raises:
            UsageError: one line that names the module, and why it cannot be run.
        """
        word = args.get("workflow")
        if word is None:
            raise UsageError("--workflow: is required: the function that --workload python runs")
        where = f"--workflow {one_line(word)[:_SHOWN]}"
        found = _WORD.fullmatch(word)
        if found is None:
            raise UsageError(f"{where}: is not MODULE:FUNCTION or FILE.py:FUNCTION")
        module = found["module"]
        path = Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
        if module.endswith(".py"):
            module = path.stem
        elif not path.is_file():
            return from_args(cls, args)
        text = _text(path, where)
        try:
            names = {
                node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)
            }
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UsageError(f"{where}: {path} is not Python: {one_line(str(error))}") from None
        if found["function"] not in names:
            raise UsageError(f"{where}: {path} has no function {found['function']}")
        args = {**args, "workflow": f"{module}:{found['function']}"}
        digest = hashlib.sha256(text.encode()).hexdigest()
        return from_args(cls, args, sha256=digest, source=UserModule.pieces_of(text))

    def graph(self) -> Graph:
        """Return a graph of nothing: what a function submits is known when it has."""
        return Graph((), ())

    def columns(self) -> tuple[str, str, float]:
        """Say that nothing is known ahead."""
        return "0", "total:0-0", 0.0

    def program(self) -> tuple[UserModule, str]:
        """Return the module, and the function in it that is called with a client."""
        module, _, function = self.workflow.partition(":")
        return UserModule(module, self.source), function


def _text(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{where}: {path} is larger than {_MOST_BYTES} bytes")
        return data.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{where}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where}: {path} is not UTF-8") from None
