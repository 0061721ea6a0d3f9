"""What the harness adds to the path of large payloads: 8 tasks that take 100 MB each.

    .venv/bin/python benchmarks/payload_path.py [--repeat N] [--size BYTES] [--redis HOST:PORT]

For each connector and mode, the makespan of ``harness run`` and of a bare program with the same
process pool, store and payloads, in turn; the ratio of their medians; and the client's peak (VmHWM)
beside what it must hold: all payloads at once, because that is what the modes mean, and what
serialising one of them needs (ProxyStore copies it once; a pool's pipe once more).

Redis is measured if a server is named: ``redis-server --save "" --port 6390`` on this machine will
do. Compare within one row, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from proxystore.proxy import resolve
from proxystore.store import register_store
from proxystore.store.base import Store
from proxystore.store.ref import borrow
from proxystore.store.scopes import submit as submit_in_scope
from proxystore.store.utils import get_key

from harness.connectors import connectors
from harness.executors._pools import warm_pool
from harness.plan import Mode, Plan
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.rows import ResultRow, read_rows
from harness.workflow.runner import PlanRunner
from harness.workflow.tasks import payload

TASKS = 8
WORKERS = 2


def nothing() -> None:
    """Be called once in every worker."""


def take(data: Any) -> bytes:
    """Be a task: resolve what was given, return a little."""
    if type(data) is not bytes:
        resolve(data)
    return bytes(data[:1000])


def high_water_bytes() -> int:
    """Return the peak of this process's resident memory."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def bare(mode: str, connector: dict[str, Any], size: int) -> float:
    """Do the same without the harness; return the makespan in seconds."""
    config = connectors.get(connector["name"])(**connector["options"])
    with (
        config.open() as storage,
        Store("bare", storage, cache_size=0) as store,
        ProcessPoolExecutor(WORKERS) as pool,
    ):
        register_store(store)
        warm_pool(pool, WORKERS, nothing, 60)
        start = time.perf_counter()
        data = [_enter(store, mode, payload(0, str(n), size)) for n in range(TASKS)]
        _call_all(pool, mode, data)
        if mode == Mode.MANUAL_PROXY:
            for proxy in data:
                store.evict(get_key(proxy))
        keys = [get_key(p) for p in data] if mode == Mode.DEFAULT_PROXY else []
        del data
        makespan = time.perf_counter() - start
        for key in keys:
            store.evict(key)
        return makespan


def _enter(store: Store[Any], mode: str, data: bytes) -> Any:
    if mode == Mode.NONE:
        return data
    if mode == Mode.OWNED_PROXY:
        return store.owned_proxy(data, populate_target=True)
    return store.proxy(data, evict=False, populate_target=True)


def _call_all(pool: Executor, mode: str, data: list[Any]) -> None:
    submit: Any = pool.submit
    if mode == Mode.OWNED_PROXY:
        futures = [submit_in_scope(submit, args=(take, borrow(item))) for item in data]
    else:
        futures = [submit(take, item) for item in data]
    for future in futures:
        future.result()
    time.sleep(0.01)  # callbacks that end borrowings run after result() may return


def harnessed(mode: str, connector: dict[str, Any], size: int) -> float:
    """Run one workflow with the harness; return the makespan in seconds."""
    plan = Plan.model_validate(
        {
            "executor_name": "process",
            "executor": {"max_workers": WORKERS},
            "connector_name": connector["name"],
            "connector": connector["options"],
            "workload": {
                "modes": [mode],
                "stage_task_counts": [TASKS],
                "stage_bytes_sizes": [size, 1000],
                "task_sleep": 0.0,
            },
            "general": {},
        }
    )
    with tempfile.TemporaryDirectory() as place:
        directory = RunDirectory(Path(place))
        with MarkWriter(directory.marks) as marks:
            PlanRunner(plan, directory, marks).execute()
        (row,) = read_rows(directory.results, ResultRow)
        return row.workflow_makespan_s


def one(kind: str, mode: str, connector: dict[str, Any], size: int) -> dict[str, float]:
    """Measure once, in a process of its own: the high-water mark is the process's."""
    code = (
        "import json, sys; from benchmarks import payload_path as p;"
        "kind, mode, connector, size = json.loads(sys.argv[1]);"
        "base = p.high_water_bytes(); makespan = getattr(p, kind)(mode, connector, size);"
        "print(json.dumps({'s': makespan, 'peak': p.high_water_bytes() - base}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([kind, mode, connector, size])],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--size", type=int, default=100_000_000)
    parser.add_argument("--redis", metavar="HOST:PORT")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        stores: list[dict[str, Any]] = [{"name": "file", "options": {"directory": place}}]
        if args.redis:
            host, _, port = args.redis.partition(":")
            stores.append({"name": "redis", "options": {"host": host, "port": int(port)}})
        print(f"{TASKS} tasks x {args.size / 1e6:g} MB, {WORKERS} processes, medians")
        print("connector mode            bare s  harness s  ratio  peak bare MB  harness MB")
        for connector in stores:
            for mode in Mode:
                found: dict[str, list[dict[str, float]]] = {"bare": [], "harnessed": []}
                for _ in range(args.repeat):
                    for kind, each in found.items():
                        each.append(one(kind, mode.value, connector, args.size))
                _print_row(connector["name"], mode.value, found)


def _print_row(connector: str, mode: str, found: dict[str, list[dict[str, float]]]) -> None:
    s = {kind: statistics.median(f["s"] for f in each) for kind, each in found.items()}
    peak = {kind: statistics.median(f["peak"] for f in each) / 1e6 for kind, each in found.items()}
    print(
        f"{connector:<9} {mode:<14} {s['bare']:>7.2f} {s['harnessed']:>10.2f}"
        f" {s['harnessed'] / s['bare']:>6.2f} {peak['bare']:>13.0f} {peak['harnessed']:>11.0f}"
    )


if __name__ == "__main__":
    main()
