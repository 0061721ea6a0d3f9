"""Plan files: a plan's flags by their names in TOML, and one file that extends another.

A file stands for the flags it holds, so that there is one description of a flag, one check of its
value and one message: the command line's. Flags beside the file override the file's.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError

ENDING = ".toml"
EXTENDS = "extends"
SWEEP = "sweep"
# A plan file is written by hand.
_MOST_BYTES = 2**20
_MOST_FILES = 20


@dataclass
class PlanFile:
    """What a plan file and the files it extends say.

    Attributes:
        values: flag, without dashes in front, to its value.
        places: flag to the file that says it.
        sweep: the table of what varies; None without one.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    sweep: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> PlanFile:
        """Read a file and those it extends.

        Raises:
            UsageError: if one of them is not there or not TOML, or they extend each other.
        """
        whole, place = cls(), path
        chain: list[Path] = []
        while True:
            if place.resolve() in chain or len(chain) >= _MOST_FILES:
                raise UsageError(f"{path}: {EXTENDS} leads back to {place}: take it out of one")
            chain.append(place.resolve())
            values = _toml(place)
            base = values.pop(EXTENDS, None)
            sweep = values.pop(SWEEP, None)
            if sweep is not None and not isinstance(sweep, dict):
                raise UsageError(f"{place}: {SWEEP}: is a table: [{SWEEP}]")
            whole.sweep = sweep if whole.sweep is None else whole.sweep
            for name, value in values.items():
                if name not in whole.values:
                    whole.values[name], whole.places[name] = value, place
            if base is None:
                return whole
            if not isinstance(base, str):
                raise UsageError(f"{place}: {EXTENDS}: takes the path of one plan file")
            place = place.parent / base

    def without(self, names: Iterable[str]) -> PlanFile:
        """Return it without some flags."""
        left = {name: value for name, value in self.values.items() if name not in set(names)}
        return PlanFile(left, self.places, self.sweep)

    def words(self, flags: Mapping[str, argparse.Action]) -> list[str]:
        """Return the command line that it stands for.

        Args:
            flags: the flags that a plan may have, by their names without dashes in front.

        Raises:
            UsageError: one line that names the file and the flag.
        """
        words: list[str] = []
        for name, value in self.values.items():
            where = f"{self.places[name]}: {name}"
            if name not in flags:
                near = difflib.get_close_matches(name, flags, n=1)
                hint = f"did you mean {near[0]}?" if near else "names are the flags' (see --help)"
                raise UsageError(f"{where}: no flag of a plan: {hint}")
            words += _words(f"--{name}", value, flags[name], where)
        return words

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the file in an error about a flag that the file holds."""
        try:
            yield
        except UsageError as error:
            message = str(error)
            flag = re.search(r"--([a-z0-9][a-z0-9-]*)", message)
            if flag is None or flag[1] not in self.values:
                raise
            raise UsageError(f"{self.places[flag[1]]}: {message}") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}: name a plan file ({ENDING})") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path}: larger than {_MOST_BYTES} bytes: this is no plan file")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8: a plan file is TOML text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None


def _words(flag: str, value: Any, action: argparse.Action, where: str) -> list[str]:
    if _is_switch(action):
        if not isinstance(value, bool):
            raise UsageError(f"{where}: takes true or false")
        return [flag] if value else []
    is_list = action.nargs == "+"
    if isinstance(value, list) and not is_list:
        raise UsageError(f"{where}: takes one value, not a list")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UsageError(f"{where}: the list is empty: leave it out")
    for each in values:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise UsageError(f"{where}: {each!r} is neither text nor a number")
    texts = [str(each) for each in values]
    if not is_list:
        return [f"{flag}={texts[0]}"]
    dashed = next((text for text in texts if text.startswith("--")), None)
    if dashed is not None:
        raise UsageError(f"{where}: {dashed!r} looks like a flag: a value has no dashes in front")
    return [flag, *texts]


def _is_switch(action: argparse.Action) -> bool:
    return action.nargs == 0


def file_of(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the plan file among the words of a command line, and the other words.

    Any word that ends in ``.toml`` is one, wherever it stands, but for a flag's own value.

    Raises:
        UsageError: if there are two.
    """
    found: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        action = parser._option_string_actions.get(before)
        takes_it = action is not None and action.nargs is None
        is_file = word.endswith(ENDING) and not word.startswith("-") and not takes_it
        (found if is_file else others).append(word)
    if len(found) > 1:
        raise UsageError(
            f"{found[0]} and {found[1]}: one plan file at a time; a file may extend another:"
            f' {EXTENDS} = "{found[0]}"'
        )
    return (Path(found[0]) if found else None), others


def given(argv: Sequence[str]) -> set[str]:
    """Return the names of the flags on a command line, without dashes in front."""
    return {word[2:].partition("=")[0] for word in argv if word.startswith("--")}


def text_of(
    argv: Sequence[str], flags: Mapping[str, argparse.Action], read_by: str = "harness bench"
) -> str:
    """Return the plan file that a command line is.

    Args:
        argv: the command line, valid.
        flags: the flags that a plan may have, by their names without dashes in front.
        read_by: the command that the file is for.
    """
    values: dict[str, list[str]] = {}
    name = ""
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            repeats = name in flags and isinstance(flags[name], argparse._ExtendAction)
            values[name] = values.get(name, []) if repeats else []
            values[name] += [value] if equals else []
        elif name:
            values[name].append(word)
    lines = [f"# {read_by} PLAN{ENDING}"]
    for name, action in flags.items():
        if name in values:
            lines.append(f"{name} = {_toml_value(values[name], action)}")
    return "\n".join(lines) + "\n"


def _toml_value(words: Sequence[str], action: argparse.Action) -> str:
    if _is_switch(action):
        return "true"
    shown = [_toml_scalar(word, action) for word in words]
    return f"[{', '.join(shown)}]" if action.nargs == "+" else shown[0]


def _toml_scalar(word: str, action: argparse.Action) -> str:
    if action.type in (int, float):
        number = str(action.type(word))
        if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", number):
            return number
    # A string of JSON is one of TOML, but for a character that only TOML forbids.
    return json.dumps(word, ensure_ascii=False).replace("\x7f", "\\u007f")


def schema_of(flags: Mapping[str, argparse.Action]) -> dict[str, Any]:
    """Return the JSON Schema of plan files: what an editor checks and completes by."""
    properties: dict[str, Any] = {
        EXTENDS: {"type": "string", "description": "the plan file that this one changes"},
        SWEEP: {
            "type": "object",
            "description": "what varies, for harness sweep: flags or variables, and their values",
            "additionalProperties": {"type": ["array", "object"]},
        },
    }
    for name, action in flags.items():
        properties[name] = {"description": (action.help or "").replace("%%", "%")}
        properties[name] |= _schema_of_value(action)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A plan of harness bench",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _schema_of_value(action: argparse.Action) -> dict[str, Any]:
    if _is_switch(action):
        return {"type": "boolean"}
    types = {int: {"type": "integer"}, float: {"type": "number"}}
    one: dict[str, Any]
    if action.choices is not None:
        one = {"enum": [str(choice) for choice in action.choices]}
    elif action.type in types:
        one = types[action.type]
    elif action.type in (None, str, str.lower):
        one = {"type": "string"}
    else:  # sizes and shares: a number, or text with a unit
        one = {"type": ["number", "string"]}
    if action.nargs != "+":
        return one
    return {"anyOf": [{"type": "array", "items": one, "minItems": 1}, one]}
