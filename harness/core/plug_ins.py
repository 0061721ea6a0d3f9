"""Plug-ins by name: a folder of modules, a decorator, and entry points for the outside.

An executor or connector is one file of its name. Importing the folder's modules runs their
decorators; packages installed beside this one add theirs through an entry point group.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from harness.core.errors import InfrastructureError

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name, loaded on first use.

    Args:
        package: dotted name of the package whose modules register themselves.
        group: entry point group that other distributions may add to.
    """

    def __init__(self, package: str, group: str) -> None:
        self._package = package
        self._group = group
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return a class decorator that enters the class under ``name``.

        Raises:
            ValueError: if another class has the name already.
        """

        def enter(cls: type[T]) -> type[T]:
            if self._classes.setdefault(name, cls) is not cls:
                raise ValueError(f"two plug-ins are called {name!r}")
            return cls

        return enter

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")
        for entry in entry_points(group=self._group):
            self.register(entry.name)(_load(entry))

    def names(self) -> list[str]:
        """Return all names, sorted."""
        self._load()
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """Return the class called ``name``.

        Raises:
            KeyError: if there is none.
        """
        self._load()
        return self._classes[name]

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        self._load()
        return iter(sorted(self._classes.items()))


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
        raise InfrastructureError(
            f"plug-in {entry.name} ({entry.value}) of {owner} cannot be imported: {error};"
            " install what it needs, or uninstall it"
        ) from error
