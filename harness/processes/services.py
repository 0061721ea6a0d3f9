"""Which processes a plan's topology is made of, where they run, and what starts them."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError
from harness.executors import ExecutorConfig
from harness.executors.dask import DaskConfig
from harness.plan import Plan
from harness.plan.options import service_variable
from harness.processes.rooms import POOLS, RUN, SECRETS, STORE

RUNNER, WORKER, SCHEDULER, REDIS = "runner", "worker", "scheduler", "redis"
PASSWORD_FILE = "redis-password"  # noqa: S105  # the name of a file
REDIS_FILE = "redis.conf"
# As in compose/parsl-htex.yaml.
TOPOLOGY_PORT = 54321
# The same in every service as in a container (compose/common.yaml).
_ENVIRONMENT = {"PYTHONFAULTHANDLER": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
_EXECUTORS = ("dask", "parsl")
_CONNECTORS = ("redis", "file")


@dataclass(frozen=True)
class Step:
    """The processes of one service on one node.

    Attributes:
        service: which.
        node: where.
        names: of the processes, as they are in all files.
        command: what each of them is; ``{name}`` in it stands for its name.
        environment: variables of its own.
    """

    service: str
    node: str
    names: Sequence[str]
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where a topology's processes are.

    Attributes:
        first: the node of scheduler, Redis and runner.
        workers: the nodes of the workers, in order.
    """

    first: str
    workers: Sequence[str]

    @property
    def nodes(self) -> list[str]:
        """All of them, the first one first."""
        return list(dict.fromkeys([self.first, *self.workers]))

    def names(self, count: int) -> dict[str, list[str]]:
        """Return what the workers on each node are called, in shares as equal as can be."""
        share, more = divmod(count, len(self.workers))
        found: dict[str, list[str]] = {}
        number = 0
        for place, node in enumerate(self.workers):
            mine = share + (place < more)
            found[node] = [f"worker-{number + n}" for n in range(1, mine + 1)]
            number += mine
        return {node: names for node, names in found.items() if names}


def refuse(plan: Plan, *, rooms: bool = False) -> None:
    """Refuse what cannot run as processes.

    Args:
        plan: with a topology.
        rooms: whether the processes are started in images.

    Raises:
        UsageError: one line that names the flag and the remedy.
    """
    topology = plan.topology
    assert topology is not None
    if plan.executor_name not in _EXECUTORS:
        raise UsageError(
            f"--executor {plan.executor_name}: its services cannot be started as processes: choose"
            f" from {', '.join(_EXECUTORS)}"
        )
    if plan.connector_name not in _CONNECTORS:
        raise UsageError(
            f"--ps-connector {plan.connector_name}: its services cannot be started as processes:"
            f" choose from {', '.join(_CONNECTORS)}"
        )
    if topology.nodes is not None:
        raise UsageError(f"--nodes {topology.nodes}: names engines; ask Slurm: salloc --nodes N")
    images = {"--stack": topology.stack, "--python": topology.python}
    for flag, given in images.items():
        if given and not rooms:
            raise UsageError(f"{flag}: is of images: install what you want to measure instead")
    if topology.worker_memory_limit is not None:
        raise UsageError("--worker-memory-limit: limit the job instead (sbatch --mem)")
    if topology.until is not None or plan.general.why is not None:
        flag = "--until" if topology.until is not None else "--why"
        raise UsageError(f"{flag}: is for 'harness bench'; leave it out")
    if topology.keep:
        raise UsageError("--keep: the steps of a job end with it; leave it out")


@dataclass
class Topology:
    """One topology's processes, once ports are known.

    Args:
        plan: what is run.
        places: where.
        ports: free ones on the first node, two of them.
        address: of the first node, as the others know it.
        private: a folder that all nodes see and nobody else reads.
        folder: where each node keeps the topology's files.
        runs: which of the plan's runs it is for.
        rooms: whether processes are started in images: each sees the same paths as in a container.
    """

    plan: Plan
    places: Places
    ports: Sequence[int]
    address: str
    private: Path
    folder: Mapping[str, str]
    runs: range
    rooms: bool = False

    def _run_folder(self, node: str) -> str:
        return RUN if self.rooms else self.folder[node]

    def _temporary(self, node: str) -> str:
        return "/tmp" if self.rooms else self.folder[node]  # noqa: S108

    @property
    def _python(self) -> str:
        return "python" if self.rooms else sys.executable

    @property
    def _host(self) -> str:
        # An image knows no names of machines.
        return self.address if self.rooms else self.places.first

    @property
    def _pools(self) -> str:
        return POOLS if self.rooms else str(self.private)

    @property
    def _pools_port(self) -> int:
        # A published image may be of a version that knows this port alone.
        return TOPOLOGY_PORT if self.rooms else self.ports[0]

    def binds(self, step: Step) -> dict[str, str]:
        """Return what a step sees in its image: directory here -> where it is in there."""
        found = {self.folder[step.node]: RUN}
        for name, there in (("store", STORE), ("secrets", SECRETS), ("parsl", POOLS)):
            found[str(self.private / name)] = there
        return found

    def stack(self, step: Step) -> str:
        """Return the image of a step."""
        return REDIS if step.service == REDIS else self.plan.executor_name

    def inside(self) -> Plan:
        """Return the plan as the runner executes it."""
        plan = self.plan.in_topology()
        more: dict[str, Any] = {}
        if self.plan.connector_name == "redis":
            more = {"host": self._host, "port": self.ports[1]}
            if not self.rooms:
                more["password_file"] = f"{self.folder[self.places.first]}/{PASSWORD_FILE}"
        elif self.plan.connector_name == "file":
            more = {"directory": STORE if self.rooms else str(self.private / "store")}
        connector = plan.connector.model_copy(update=more)
        executor: ExecutorConfig = plan.executor
        if self.plan.executor_name == "dask":
            address = f"tcp://{self._host}:{self.ports[0]}"
            executor = executor.model_copy(update={"scheduler": address})
        return plan.model_copy(update={"executor": executor, "connector": connector})

    def secrets(self) -> dict[str, bytes]:
        """Return files that every node gets into the topology's folder."""
        if self.plan.connector_name != "redis" or self.rooms:
            return {}  # an image's server makes its password itself
        password = secrets.token_urlsafe(32)
        return {
            PASSWORD_FILE: f"{password}\n".encode(),
            REDIS_FILE: f"requirepass {password}\n".encode(),
        }

    def steps(self) -> list[Step]:
        """Return all steps, in the order in which they are started."""
        found = []
        if self.plan.connector_name == "redis":
            found.append(self._redis())
        workers = self.places.names(self.plan.executor.worker_containers)
        if self.plan.executor_name == "dask":
            found.append(self._scheduler())
            found += [self._dask_worker(node, names) for node, names in workers.items()]
        elif self.has_pools:
            found += [self._parsl_pool(node, names) for node, names in workers.items()]
        found.append(self._runner())
        if not self.rooms:
            return found
        # Each has a process tree of its own, and so a step.
        return [replace(step, names=[name]) for step in found for name in step.names]

    @property
    def has_pools(self) -> bool:
        """Whether Parsl's workers are processes of their own."""
        return getattr(self.plan.executor, "kind", None) == "htex"

    def _environment(self, service: str) -> dict[str, str]:
        found = dict(_ENVIRONMENT)
        found |= self.plan.executor.containers().service_environment.get(service, {})
        assert self.plan.topology is not None
        for word in self.plan.topology.env:
            name, key, value = service_variable(word)
            if name == service:
                found[key] = value
        return found

    def _redis(self) -> Step:
        if self.rooms:
            command = ["python", "-m", "harness.core.redis_server", f"{SECRETS}/redis"]
            command += ["--save", "", "--appendonly", "no", "--dir", "/tmp"]  # noqa: S108
            command += ["--port", str(self.ports[1])]
            return Step(REDIS, self.places.first, ["redis-1"], command, self._environment(REDIS))
        folder = self.folder[self.places.first]
        options = f"--save '' --appendonly no --dir {shlex.quote(folder)} --port {self.ports[1]}"
        command = ["redis-server", f"{folder}/{REDIS_FILE}", *shlex.split(options)]
        return Step(REDIS, self.places.first, ["redis-1"], command, self._environment(REDIS))

    def _scheduler(self) -> Step:
        module = "distributed.cli.dask_scheduler"
        command = [self._python, "-m", module, "--port", str(self.ports[0]), "--no-dashboard"]
        folder = self._temporary(self.places.first)
        environment = {"DASK_TEMPORARY_DIRECTORY": folder} | self._environment(SCHEDULER)
        return Step(SCHEDULER, self.places.first, ["scheduler-1"], command, environment)

    def _dask_worker(self, node: str, names: Sequence[str]) -> Step:
        # As in compose/dask.yaml, which says why.
        options = self.plan.executor
        assert isinstance(options, DaskConfig)
        folder = self._temporary(node)
        command = [
            *(self._python, "-m", "distributed.cli.dask_worker"),
            f"tcp://{self._host}:{self.ports[0]}",
            *(*options.worker_words(), "--no-dashboard"),
        ]
        own = "" if self.rooms else "/{name}"
        command += ["--local-directory", f"{folder}{own}"]
        command += [] if self.rooms else ["--name", "{name}"]
        environment = {"DASK_TEMPORARY_DIRECTORY": folder} | self._environment(WORKER)
        return Step(WORKER, node, names, command, environment)

    def _parsl_pool(self, node: str, names: Sequence[str]) -> Step:
        # As in compose/parsl-htex.yaml.
        there, logs = shlex.quote(f"{self._pools}/interchange"), shlex.quote(self._temporary(node))
        options = (
            f"--addresses {self.address} --port {self._pools_port} --cert_dir {there}/certificates"
            " --max_workers_per_node 1 --cores_per_worker 0.001 --mem_per_worker None"
            " --prefetch_capacity 0 --hb_period 2 --hb_threshold 30 --drain_period None"
            f" --cpu-affinity none --block_id 0 --logdir {logs}/{{name}}"
        )
        script = (
            f"n=0; until test -e {there}; do n=$((n + 1));"
            ' test $n -lt 1200 || { echo "no interchange in a minute" >&2; exit 1; };'
            " sleep 0.05; done; exec"
            f" {shlex.quote(self._python)} -m parsl.executors.high_throughput.process_worker_pool"
            f" {options}"
        )
        return Step(WORKER, node, names, ["sh", "-c", script], self._environment(WORKER))

    def _runner(self) -> Step:
        folder = self._run_folder(self.places.first)
        command = [self._python, "-m", "harness", "run", "--plan", f"{folder}/plan.json"]
        if len(self.runs) < self.plan.run_count:
            command += ["--places", str(self.runs.start + 1), str(self.runs.stop)]
        environment = self._environment(RUNNER) | {
            "HARNESS_MARKS_ACK": "1",
            "DASK_TEMPORARY_DIRECTORY": self._temporary(self.places.first),
        }
        if self.has_pools:
            environment |= {
                "HARNESS_PARSL_DIR": self._pools,
                "HARNESS_PARSL_PORT": str(self._pools_port),
                # Parsl asks for the user's name, which an image may not know.
                **({"USER": "harness"} if self.rooms else {}),
            }
        return Step(RUNNER, self.places.first, ["runner-1"], command, environment)
