from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.core import trace
from harness.core.flags import Parser
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.results.directory import RunDirectory
from harness.results.traces import read_traces
from harness.workflow.tasks import no_container
from harness.workflow.tracing import Tracing

pytest.importorskip("memray")
RUN = "0001-none-1"


def plan_of(executor: str) -> Plan:
    parser = Parser(prog="harness run", allow_abbrev=False)
    add_plan_flags(parser, containers=False)
    line = f"--executor {executor} --ps-connector file --ps-file-dir x --stage-task-counts 1"
    return parse_plan(
        parser, f"{line} --stage-bytes-sizes 1 1 --task-sleep 0".split(), containers=False
    )


def hold(size: int) -> int:
    return len(bytes(size))


def test_every_process_of_a_pool_is_traced_while_the_run_goes_on(tmp_path: Path) -> None:
    plan, directory = plan_of("process --process-pool-max-workers 2"), RunDirectory(tmp_path)
    with plan.executor.start(10) as executor:
        plan.executor.wait_ready(executor, dict, 60)
        with Tracing(plan, directory, no_container).of_run(RUN, executor):
            executor.submit(hold, 5_000_000).result()
            kept = bytes(7_000_000)
        executor.submit(hold, 90_000_000).result()
    del kept

    traces, problems = read_traces(directory.traces)

    assert problems == []
    assert len(traces) == 3
    assert len({trace.pid for trace in traces}) == 3
    peaks = sorted(trace.peak_bytes for trace in traces)
    assert 5_000_000 <= peaks[-2] < 9_000_000
    assert 7_000_000 <= peaks[-1] < 12_000_000
    # What memray itself wrote is gone.
    assert [path.name for path in tmp_path.iterdir()] == [directory.traces.name]


def test_a_worker_that_was_asked_in_a_task_has_all_of_its_frames(tmp_path: Path) -> None:
    plan, directory = plan_of("process --process-pool-max-workers 1"), RunDirectory(tmp_path)
    with plan.executor.start(10) as executor:
        plan.executor.wait_ready(executor, dict, 60)
        with Tracing(plan, directory, no_container).of_run(RUN, executor):
            executor.submit(hold, 50_000_000).result()

    (held,) = (
        each
        for trace in read_traces(directory.traces)[0]
        for each in trace.peak
        if each.size_bytes == 50_000_033
    )
    functions = [function for function, _, _ in held.stack]
    # The worker's loop was there before the trace was.
    assert functions[:2] == ["hold", "_process_worker"]
    assert len(functions) > 4


def test_a_trace_that_cannot_be_read_costs_one_line(tmp_path: Path) -> None:
    plan, directory = plan_of("thread"), RunDirectory(tmp_path)
    tracing = Tracing(plan, directory, lambda _: "worker-1")
    with plan.executor.start(10) as executor, tracing.of_run(RUN, executor):
        (tmp_path / ".tracing" / f"host-9{trace.SUFFIX}").write_bytes(b"cut")
    (document,) = (json.loads(path.read_text()) for path in directory.traces.glob("*.not-traced.*"))

    assert len(document) == 1
    assert document[0].startswith("worker-1: its trace cannot be read (")


def test_reading_traces_ends_in_time_whatever_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.workflow.tracing._READING_S", 0.0)
    plan, directory = plan_of("thread"), RunDirectory(tmp_path)
    with (
        plan.executor.start(10) as executor,
        Tracing(plan, directory, lambda _: "runner-1").of_run(RUN, executor),
    ):
        pass
    (document,) = (json.loads(path.read_text()) for path in directory.traces.glob("*.not-traced.*"))
    assert document == [
        "runner-1: its trace was left out: all of them took longer than 0 s to read"
    ]
    assert read_traces(directory.traces)[0] == []


def test_without_memray_the_run_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)
    plan, directory = plan_of("thread"), RunDirectory(tmp_path)
    tracing = Tracing(plan, directory, no_container)
    with plan.executor.start(10) as executor, tracing.of_run(RUN, executor):
        pass

    traces, (problem,) = read_traces(directory.traces)

    assert traces == []
    assert "memray" in problem
