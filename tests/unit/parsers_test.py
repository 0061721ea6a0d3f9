"""Properties of everything that parses what others wrote: any input, an answer or one clear error.

An input that crashes a sampler ends a view; one that crashes a command is a traceback.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.errors import HarnessError, UsageError
from harness.core.flags import Parser
from harness.core.text import parse_size
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.results.conversation import parse_settled
from harness.results.memory import MarkRow, PeakRow
from harness.results.rows import ObjectsRow, OutcomeRow, ResultRow, RowWriter, read_rows
from harness.sampling import docker_stats, marks, meminfo, names
from harness.sampling.cgroup import paths, reader
from harness.topology.resume import read_bench_file
from harness.topology.stacks import stacks_in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KERNEL_LINES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("total_rss", "total_cache", "total_shmem", "anon", "file", "shmem", "kernel"),
                *("oom_kill", "some", "full", "MemTotal:", "MemAvailable:", "inactive_file"),
            ]
        ),
        st.integers(0, 2**63).map(str) | st.text(max_size=8),
    ).map(" ".join),
    max_size=8,
).map("\n".join)


def parser() -> Parser:
    found = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(found, containers=True)
    return found


PARSER = parser()
FLAGS = sorted(option for action in PARSER._actions for option in action.option_strings)
VALUES = st.sampled_from(
    ["dask", "thread", "redis", "file", "multi", "1", "0", "-1", "1e400", "nan", "10MB", "-5KB"]
) | st.text(max_size=10)


@pytest.mark.parametrize(
    "parse",
    [
        reader.parse_bytes,
        functools.partial(reader.parse_stat, reader.V1),
        functools.partial(reader.parse_stat, reader.V2),
        reader.parse_oom_kill,
        reader.parse_pressure,
        meminfo.parse_meminfo,
        marks.parse_marks,
        stacks_in,
    ],
)
def test_bytes_of_the_kernel_and_of_marks(parse: Callable[[bytes], object]) -> None:
    @given(st.binary(max_size=200) | KERNEL_LINES.map(lambda text: text.encode(errors="replace")))
    def never_raises(data: bytes) -> None:
        parse(data)

    never_raises()


@pytest.mark.parametrize(
    "parse",
    [
        paths.parse_proc_cgroup,
        paths.parse_mountinfo,
        docker_stats.parse_time,
        names.parse_nameserver,
        lambda text: parse_settled(text, "0001-none-1"),
        lambda text: paths.memory_cgroup(text, text),
    ],
)
def test_texts_of_the_kernel_and_the_engine(parse: Callable[[str], object]) -> None:
    @given(st.text(max_size=200) | KERNEL_LINES)
    def never_raises(text: str) -> None:
        parse(text)

    never_raises()


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.booleans())
def test_a_count_of_the_kernel_is_read_as_it_is(anon: int, shmem: int, trailing: bool) -> None:
    text = f"anon {anon}\nfile {shmem}\nshmem {shmem}\n" + ("x" if trailing else "")
    found = reader.parse_stat(reader.V2, text.encode())
    assert (found.anon_bytes, found.shmem_bytes) == (anon, shmem)
    assert reader.parse_bytes(f"{anon}\n".encode()) == anon


@given(st.integers(0, 2**63))
def test_stats_of_the_engine(usage: int) -> None:
    message = {"read": "2026-01-02T03:04:05.678901234Z", "memory_stats": {"usage": usage}}
    row = docker_stats.parse(message, run_id="r", container="c", t_mono_recv_ns=1)
    assert row is not None
    assert row.usage_bytes == row.mem_usage_cli_bytes == usage
    empty = docker_stats.parse({}, run_id="r", container="c", t_mono_recv_ns=1)
    assert empty is None


@given(st.binary(max_size=80), st.integers(0, 65535))
def test_any_answer_of_a_name_server_is_a_name_or_none(message: bytes, query: int) -> None:
    found = names.parse_ptr_answer(message, query)
    assert found is None or isinstance(found, str)


@given(st.text())
def test_a_size_is_not_negative_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_size(text) >= 0


@given(st.lists(st.sampled_from(FLAGS) | VALUES, max_size=12))
def test_any_flags_are_a_plan_or_one_line(words: list[str]) -> None:
    words = [word for word in words if word not in ("-h", "--help")]
    try:
        plan = parse_plan(parser(), words, containers=True)
    except HarnessError as error:
        message = str(error)
    else:
        assert plan.runs()
        message = ""
    assert "\n" not in message


@given(JSON)
def test_any_json_is_a_plan_or_refused(document: Any) -> None:
    with suppress(ValidationError, KeyError):
        Plan.model_validate_json(json.dumps(document))
    for text in (json.dumps(document), json.dumps({"plan": document, "images": document})):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "bench.json"
            path.write_text(text)
            with pytest.raises(UsageError):
                read_bench_file(path)


@pytest.mark.parametrize("row_type", [OutcomeRow, ResultRow, ObjectsRow, MarkRow, PeakRow])
def test_any_file_is_rows_or_one_line(row_type: type[Any]) -> None:
    header = ",".join(row_type.__dataclass_fields__)

    @given(st.text(max_size=100).filter(lambda text: "\x00" not in text))
    def rows_or_usage_error(text: str) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "rows.csv"
            path.write_text(f"{header}\n{text}", newline="")
            with suppress(UsageError):
                assert all(isinstance(row, row_type) for row in read_rows(path, row_type))

    rows_or_usage_error()


@given(
    st.lists(
        st.builds(
            OutcomeRow,
            st.text().map("run-{}".format),
            st.text(),
            st.integers(0, 2**62),
            st.text().map("ended-{}".format),
            st.text(),
            st.none() | st.text(min_size=1),
        ),
        max_size=5,
    )
)
def test_rows_come_back_one_line_each(rows: list[OutcomeRow]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "outcomes.csv"
        with RowWriter(path, OutcomeRow) as writer:
            for row in rows:
                writer.write(row)
        assert path.read_bytes().count(b"\n") == len(rows) + 1
        assert [row.repetition for row in read_rows(path, OutcomeRow)] == [
            row.repetition for row in rows
        ]
