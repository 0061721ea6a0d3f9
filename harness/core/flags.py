"""Command-line flags derived from the fields of pydantic models.

A field annotated with :class:`Flag` becomes an argparse option; the model stays the only
description of an option's name, type and default. Models may share a flag (several
connectors have a ``--ps-port``): the parser then has it once.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from harness.core.errors import UsageError
from harness.core.parser import Parser as Parser  # noqa: PLC0414 - for whoever has it from here
from harness.core.parser import share
from harness.core.sizes import parse_size
from harness.core.text import NOT_UTF8, is_utf8

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Flag:
    """How a field shows on the command line.

    Attributes:
        name: the option string, e.g. ``--repeat``.
        help: one line; the default is appended to it.
        metavar: placeholder in ``--help``; the type decides when it is empty.
        choices: the allowed values.
        size: values are byte sizes such as ``10MB``.
        lower: values are folded to lower case before they are checked.
        share: values are shares such as ``5%``.
        repeats: given several times, its values add up.
        place: it says where something is (an address, a port, a folder), and not what is done: runs
            with another one compare. Whether there is one, and how many, still counts.
        bare: the value of the flag alone, for one that may go without.
        secret: it names a secret: nothing about it is other work.
    """

    name: str
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    size: bool = False
    lower: bool = False
    share: bool = False
    repeats: bool = False
    place: bool = False
    bare: str | None = None
    secret: bool = False

    @property
    def dest(self) -> str:
        """The argparse attribute name."""
        return self.name.lstrip("-").replace("-", "_")


def flag_of(field: FieldInfo) -> Flag | None:
    """Return the flag a model field is annotated with, if any."""
    return next((m for m in field.metadata if isinstance(m, Flag)), None)


def flags_of(model: type[BaseModel]) -> dict[str, Flag]:
    """Return field name -> flag for all flagged fields of a model."""
    found = {name: flag_of(field) for name, field in model.model_fields.items()}
    return {name: flag for name, flag in found.items() if flag is not None}


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _element_type(annotation: Any) -> tuple[type, bool]:
    """Return (scalar type, is a list) of a field annotation such as ``list[int] | None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) in (list, tuple):
        return get_args(annotation)[0], True
    return annotation, False


def add_flags(
    parser: argparse.ArgumentParser,
    title: str,
    models: Iterable[type[BaseModel]],
    only: Container[str] | None = None,
) -> None:
    """Add one argument group with the flags of some models, or of ``only`` some fields, once each.

    Every option defaults to ``argparse.SUPPRESS``: an option that was not given is not in the
    name space, so that the model's own default (and only that) applies.
    """
    add_flags_to(parser.add_argument_group(title), models, only)


def add_flags_to(
    group: argparse._ArgumentGroup,
    models: Iterable[type[BaseModel]],
    only: Container[str] | None = None,
) -> None:
    """Add the same to a group that is there; flags that the parser has already are left out."""
    for model in models:
        for name, flag in flags_of(model).items():
            known = flag.name in group._option_string_actions
            if not known and (only is None or name in only):
                _add_flag(group, model.model_fields[name], flag)


def _add_flag(group: argparse._ArgumentGroup, field: FieldInfo, flag: Flag) -> None:
    kind, is_list = _element_type(field.annotation)
    default = field.get_default(call_default_factory=True)
    shown = "" if default in (None, PydanticUndefined, False) else f" (default: {_show(default)})"
    if kind is bool:
        group.add_argument(
            flag.name,
            action="store_true",
            default=argparse.SUPPRESS,
            help=flag.help,
        )
        return
    scalar: Any = str
    if flag.size:
        scalar = _size
    elif flag.share:
        scalar = share
    elif flag.lower:
        scalar = str.lower
    elif kind in (int, float):
        scalar = kind
    group.add_argument(
        flag.name,
        type=scalar,
        nargs="+" if is_list else "?" if flag.bare else None,
        const=flag.bare,
        action="extend" if flag.repeats else "store",
        choices=flag.choices,
        metavar=flag.metavar,
        default=argparse.SUPPRESS,
        help=flag.help.replace("%", "%%") + shown,
    )


def _show(default: Any) -> str:
    if isinstance(default, list | tuple):
        return " ".join(str(getattr(d, "value", d)) for d in default)
    return str(getattr(default, "value", default))


def from_args(model: type[M], args: Mapping[str, Any], **more: Any) -> M:
    """Build a model from parsed arguments.

    Raises:
        UsageError: one line that names the first flag that is wrong or missing.
    """
    flags = flags_of(model)
    values = {name: args[flag.dest] for name, flag in flags.items() if flag.dest in args}
    for name, value in values.items():
        # Plans go into JSON files, and paths into compose files, both of which are UTF-8.
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and not is_utf8(text):
                raise UsageError(f"{flags[name].name} {text!r}: {NOT_UTF8}")
    try:
        return model(**values, **more)
    except ValidationError as error:
        raise UsageError(_one_line(error, flags)) from None


def _one_line(error: ValidationError, flags: Mapping[str, Flag]) -> str:
    first = error.errors()[0]
    where = str(first["loc"][0]) if first["loc"] else ""
    flag = flags[where].name if where in flags else where
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = f"is required: {flags[where].help if where in flags else 'no value given'}"
    elif first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {first['input']!r}"
    return f"{flag}: {message}" if flag else message
