"""Find the command, run it, turn errors into one line and an exit code."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import io
import locale
import os
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import harness.cli
from harness import __version__
from harness.core import interrupt
from harness.core.errors import (
    OWN_FAULT,
    HarnessError,
    InfrastructureError,
    UsageError,
    missing_package,
    own_fault,
)

_EXTRAS = {
    "docker": ("bench", "docker"),
    "rich": ("bench", "rich"),
    "argcomplete": ("bench", "argcomplete"),
    "jinja2": ("report", "jinja2"),
    "matplotlib": ("report", "matplotlib"),
    "packaging": ("stacks", "packaging"),
    "uv": ("stacks", "uv"),
    "pypi_simple": ("history", "pypi-simple"),
    "ruptures": ("history", "ruptures"),
    "numpy": ("report", "numpy"),
    "cyclonedx": ("reproduce", "cyclonedx-python-lib"),
    "rocrate": ("reproduce", "rocrate"),
    "zstandard": ("reproduce", "zstandard"),
}
"""Module that a command imports to its extra and its name in the package index."""

GROUPS = (
    ("begin", ("demo", "bench", "run", "sweep", "slurm", "doctor")),
    ("look at results", ("report", "plot", "list", "compare", "why", "site")),
    ("other versions", ("ab", "bisect", "history")),
    ("publish and reproduce", ("pack", "inspect", "reproduce")),
    ("this machine", ("images", "calibrate", "clean", "completion")),
)
"""The commands by what they are for; each is in one of these."""

INTERRUPTED = 130
# As shells count a process that SIGPIPE ended.
BROKEN_PIPE = 141


def _commands() -> list[str]:
    """Return the names of the commands: every module here with a public name but this one."""
    names = (module.name for module in pkgutil.iter_modules(harness.cli.__path__))
    return sorted(name for name in names if name != "main" and not name.startswith("_"))


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"harness.cli.{name}")


def _summary(name: str) -> str:
    """Return the first line of a command's docstring, without importing what it imports."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _help() -> str:
    lines = ["usage: harness COMMAND [FLAG...]", "", (harness.__doc__ or "").strip()]
    left = _commands()
    for title, names in (*GROUPS, ("more", tuple(left))):
        known = [name for name in names if name in left]
        if known:
            lines += ["", f"{title}:", *(f"  {name:<10} {_summary(name)}" for name in known)]
        left = [name for name in left if name not in known]
    lines += ["", "example:", "  harness demo", ""]
    lines += ["'harness COMMAND --help' lists a command's flags, with an example."]
    return "\n".join(lines)


def _name_what_was_left(args: Sequence[str]) -> None:
    """Say so if an earlier bench ended without cleaning up, as after SIGKILL or a restart."""
    # In a container there is neither that room nor anything to clean up.
    if args[0] == "clean" or importlib.util.find_spec("harness.topology") is None:
        return
    records = importlib.import_module("harness.topology.records")
    notice = records.notice(records.noted())
    if notice:
        with suppress(OSError):  # nobody reads it
            print(f"harness {args[0]}: {notice}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:  # noqa: C901 - one end for each kind of error
    """Run one command and return its exit code.

    0 ok, 1 measured failure or regression, 2 usage, 3 infrastructure, 4 a fault of the harness
    itself, 130 interrupted.
    """
    _print_anything()
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        if "_ARGCOMPLETE" in os.environ:  # a shell asks how its line can go on, and gives no words
            return int(_load("_completion").answer(_commands()))
        print(_help())
        return 0 if args else 2
    if args[0] == "--version":
        print(f"harness {__version__}")
        return 0
    interrupt.install()
    try:
        return _run(args)
    except HarnessError as error:
        message, code = f"error: {error}", error.exit_code
    except BrokenPipeError:
        # Whoever read the output is gone. Python would complain once more when it flushes at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        message, code = "interrupted; rows so far are kept", INTERRUPTED
    except MemoryError:
        message, code = "error: not enough memory on this machine", InfrastructureError.exit_code
    except OSError as error:
        # A disk that is full, a folder that may not be written: the machine's, wherever it shows.
        where = f"{error.filename}: " if error.filename else ""
        message = f"error: {where}{error.strerror or error}"
        code = InfrastructureError.exit_code
    except Exception as error:  # noqa: BLE001  # the last catch: Python's own would exit with 1
        message, code = f"error: {own_fault(error)}", OWN_FAULT
    print(f"harness {args[0]}: {message}", file=sys.stderr)
    return code


def _run(args: Sequence[str]) -> int:
    if args[0] not in _commands():
        near = difflib.get_close_matches(args[0], _commands(), n=1)
        what = f"did you mean {near[0]}?" if near else f"choose from {', '.join(_commands())}"
        raise UsageError(f"unknown command {args[0]!r}: {what}")
    _name_what_was_left(args)
    try:
        code = int(_load(args[0]).main(args[1:]))
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRAS:
            raise
        extra, package = _EXTRAS[module]
        raise missing_package("", package, extra) from None
    sys.stdout.flush()
    return code


def _print_anything() -> None:
    """Let no character end a command: a terminal that lacks it shows its escape.

    Files and pipes are UTF-8 in every locale, here and in what is started from here.
    """
    os.environ["PYTHONUTF8"] = "1"
    with suppress(locale.Error):  # then files are what the locale says
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
