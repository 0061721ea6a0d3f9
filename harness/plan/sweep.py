"""Sweeps: one plan over several values of its flags.

A plan file's table ``[sweep]`` names what varies. A name that is a flag's varies that flag. Any
other name is a variable: wherever the plan says ``{name}``, its value stands.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UsageError
from harness.core.sizes import format_size, parse_size

ZIP = "zip"
MOST_CELLS = 1000
_MOST_VALUES = 100
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Value:
    """One value of a parameter.

    Attributes:
        words: as a command line has it; a flag that takes several has several.
        number: what it is on an axis, sizes in bytes; None if it is no number.
    """

    words: tuple[str, ...]
    number: float | None

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Parameter:
    """What varies: a flag without its dashes, or a variable; and all of its values."""

    name: str
    values: tuple[Value, ...]

    @property
    def is_size(self) -> bool:
        """Whether the values are sizes with units."""
        return all(not _is_number(str(value)) for value in self.values) and self.is_axis

    @property
    def is_axis(self) -> bool:
        """Whether the values are numbers, of which figures can be drawn as a curve."""
        return all(value.number is not None for value in self.values)


@dataclass(frozen=True)
class Cell:
    """One plan of a sweep: its values by the parameters' names."""

    values: Mapping[str, Value]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.values.items())

    def words(self, base: Sequence[str], flags: Mapping[str, argparse.Action]) -> list[str]:
        """Return the command line of this cell.

        Args:
            base: the command line that all cells share.
            flags: the flags that a plan may have, by their names without dashes in front.
        """
        swept = {f"--{name}" for name in self.values if name in flags}
        words = []
        dropped = False
        for word in base:
            if word.startswith("--"):
                dropped = word.partition("=")[0] in swept
            if not dropped:
                words.append(self._filled(word))
        for name, value in self.values.items():
            if name in flags:
                words += [f"--{name}", *value.words]
        return words

    def _filled(self, word: str) -> str:
        for name, value in self.values.items():
            word = word.replace(f"{{{name}}}", str(value))
        return word


@dataclass(frozen=True)
class Sweep:
    """What varies, and what varies together.

    Attributes:
        parameters: crossed with each other, the last one fastest.
        together: names of parameters that take their values in step.
    """

    parameters: tuple[Parameter, ...]
    together: tuple[tuple[str, ...], ...] = ()

    def cells(self) -> list[Cell]:
        """Return all cells, in order."""
        groups: dict[str, list[Parameter]] = {}
        leader = {name: names[0] for names in self.together for name in names}
        for parameter in self.parameters:
            groups.setdefault(leader.get(parameter.name, parameter.name), []).append(parameter)
        axes = [
            [
                dict(zip([p.name for p in group], step, strict=True))
                for step in zip(*(parameter.values for parameter in group), strict=True)
            ]
            for group in groups.values()
        ]
        order = [parameter.name for parameter in self.parameters]
        found = []
        for steps in itertools.product(*axes):
            values = {name: value for step in steps for name, value in step.items()}
            found.append(Cell({name: values[name] for name in order}))
        return found


def sweep_of(
    table: Mapping[str, Any],
    flags: Mapping[str, argparse.Action],
    base: Sequence[str],
    where: Callable[[str], str],
) -> Sweep:
    """Return the sweep that a table describes.

    Args:
        table: names to lists of values, or to ranges such as ``{from = 1, to = 100, factor = 10}``;
            ``zip`` to lists of names that vary together.
        flags: the flags that a plan may have, by their names without dashes in front.
        base: the command line that all cells share: a variable must be in it.
        where: what errors about a name begin with.

    Raises:
        UsageError: one line that names the place and the parameter.
    """
    parameters = []
    for name, given in table.items():
        if name == ZIP:
            continue
        if not _NAME.fullmatch(name):
            raise UsageError(f"{where(name)}: is no name: use a flag's, or a-z, 0-9 and '-'")
        if name not in flags and not any(f"{{{name}}}" in word for word in base):
            raise UsageError(
                f"{where(name)}: neither a flag of a plan nor used: write {{{name}}} where its"
                " value belongs"
            )
        parameters.append(Parameter(name, _values(given, where(name))))
    if not parameters:
        raise UsageError(f"{where(ZIP)}: nothing varies: name a flag and its values")
    together = _together(table.get(ZIP, []), parameters, where(ZIP))
    found = Sweep(tuple(parameters), together)
    number = len(found.cells())
    if number > MOST_CELLS:
        raise UsageError(
            f"{where(parameters[-1].name)}: {number} cells; a sweep has at most {MOST_CELLS}"
        )
    return found


def _together(
    given: Any, parameters: Sequence[Parameter], where: str
) -> tuple[tuple[str, ...], ...]:
    lengths = {parameter.name: len(parameter.values) for parameter in parameters}
    groups = given if isinstance(given, list) else [given]
    if groups and all(isinstance(each, str) for each in groups):
        groups = [groups]
    seen: set[str] = set()
    for group in groups:
        if not isinstance(group, list) or len(group) < 2:
            raise UsageError(f"{where}: takes lists of two names or more")
        for name in group:
            if name not in lengths or name in seen:
                raise UsageError(f"{where}: {name!r} is not one of the parameters, once")
            seen.add(name)
        if len({lengths[name] for name in group}) > 1:
            many = ", ".join(f"{name} {lengths[name]}" for name in group)
            raise UsageError(f"{where}: needs as many values of each ({many})")
    return tuple(tuple(group) for group in groups)


def _values(given: Any, where: str) -> tuple[Value, ...]:
    if isinstance(given, dict):
        given = _range(given, where)
    if not isinstance(given, list) or not given:
        raise UsageError(f"{where}: takes a list of values, or {{from = 1, to = 8, step = 1}}")
    if len(given) > _MOST_VALUES:
        raise UsageError(f"{where}: {len(given)} values; a parameter has at most {_MOST_VALUES}")
    values = []
    for each in given:
        words = each if isinstance(each, list) else [each]
        if not words or any(
            isinstance(w, bool) or not isinstance(w, str | int | float) for w in words
        ):
            raise UsageError(f"{where}: {each!r} is neither text nor a number, nor a list of them")
        values.append(value_of([str(word) for word in words]))
    if len({str(value) for value in values}) < len(values):
        raise UsageError(f"{where}: a value is there twice: leave one out")
    return tuple(values)


def value_of(words: Sequence[str]) -> Value:
    """Return a value; one word that is a number or a size has a place on an axis."""
    return Value(tuple(words), _number(words[0]) if len(words) == 1 else None)


def _number(text: str) -> float | None:
    if _is_number(text):
        return float(text)
    try:
        return float(parse_size(text))
    except ValueError:
        return None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text) is not None


def _range(given: Mapping[str, Any], where: str) -> list[str]:
    """Return the values of ``{from, to, step}`` or ``{from, to, factor}``, both ends included."""
    if set(given) not in ({"from", "to", "step"}, {"from", "to", "factor"}):
        raise UsageError(f"{where}: a range has from, to, and step or factor")
    numbers = {key: _number(str(value)) for key, value in given.items()}
    wrong = next((key for key, number in numbers.items() if number is None), None)
    if wrong is not None:
        raise UsageError(f"{where}: {wrong}: {given[wrong]!r} is neither a number nor a size")
    first, last = numbers["from"] or 0.0, numbers["to"] or 0.0
    step, factor = numbers.get("step"), numbers.get("factor")
    grows = (step or 0) > 0 if factor is None else factor > 1 and first > 0
    if not grows or last < first:
        raise UsageError(f"{where}: a range grows: from at most to, step above 0 or factor above 1")
    size = not all(_is_number(str(given[key])) for key in ("from", "to"))
    found: list[str] = []
    at = first
    # Sums of decimal fractions are a little beside.
    while at <= last * (1 + 1e-9) and len(found) <= _MOST_VALUES:
        found.append(_size_word(at) if size else f"{at:.12g}")
        at = first + len(found) * (step or 0) if factor is None else at * factor
    return found


def _size_word(size_bytes: float) -> str:
    """Return a size as a flag takes it, as short as it is exact: ``10MB``, ``1500``."""
    whole = round(size_bytes)
    word = format_size(whole).replace(" ", "")
    short = re.sub(r"\.?0+([A-Z])", r"\1", word) if "." in word else word
    return short if math.isclose(parse_size(short), whole, abs_tol=0.5) else str(whole)
