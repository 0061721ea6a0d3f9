"""What a checkout has beside the package, and a wheel in it: compose files, images' recipes."""

from __future__ import annotations

import os
from pathlib import Path

import harness
from harness.core.environment import home_directory

_PACKAGE = Path(harness.__file__).resolve().parent
_CARRIED = "_checkout"

CHECKOUT = _PACKAGE / _CARRIED if (_PACKAGE / _CARRIED).is_dir() else _PACKAGE.parent
"""The folder that has ``compose/``, ``images/``, ``images.lock`` and ``pyproject.toml``."""


def package_sources(checkout: Path) -> Path:
    """Return the package that belongs to such a folder: what goes into images."""
    return checkout.parent if checkout.name == _CARRIED else checkout / "harness"


def build_directory(checkout: Path) -> Path:
    """Return where images are put together: the user's cache where the package is installed."""
    if checkout.name == _CARRIED:
        cache = os.environ.get("XDG_CACHE_HOME") or Path(home_directory(), ".cache")
        return Path(cache) / "workflow-memory-harness" / "images"
    return checkout / "build" / "images"
