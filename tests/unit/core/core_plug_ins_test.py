from __future__ import annotations

import pytest

from harness.connectors import connectors
from harness.core.plug_ins import Registry
from harness.executors import executors


def test_every_file_of_the_folder_is_a_plug_in() -> None:
    assert {"dask", "process", "thread"} <= set(executors.names())
    assert {"file", "redis"} <= set(connectors.names())


def test_a_plug_in_says_the_name_it_is_registered_under() -> None:
    for registry in (executors, connectors):
        for name, plug_in in registry:
            assert plug_in.name == name


def test_two_plug_ins_of_one_name_are_refused() -> None:
    registry: Registry[object] = Registry("harness.core", "no.such.group")
    registry.register("x")(int)
    registry.register("x")(int)
    with pytest.raises(ValueError, match="two plug-ins are called 'x'"):
        registry.register("x")(str)
