"""A machine for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import DEBIAN_12, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "machine")
    machine.system(DEBIAN_12)
    yield machine
    machine.end()
