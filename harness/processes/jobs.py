"""The outside view of workers in Slurm jobs that somebody else's cluster has started.

On each of their nodes a step of such a job is an agent, which reads the cgroups of the steps that
the workers are in. All of the jobs must be this user's: Slurm starts no step in another's. An agent
at home sees the runner's marks, and the others hear of them from it, as in a topology on several
nodes.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness.core.errors import InfrastructureError
from harness.processes import slurm
from harness.processes.agents import Agents, NodeRelay
from harness.processes.services import WORKER
from harness.results.conversation import MarkWriter
from harness.results.directory import RunDirectory
from harness.results.schema import ON_NODE
from harness.sampling.agent.relay import MODULE
from harness.sampling.agent.several import Several
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig
from harness.sampling.child import ChildStreams
from harness.sampling.spool import Sampled

logger = logging.getLogger("run.workflow-memory")

_AGENT = "harness.processes.node"
_HOME = "home"
_FOLDER = "jobs"


@contextmanager
def watched_jobs(
    workers: Mapping[str, Sampled], directory: RunDirectory, marks: MarkWriter
) -> Iterator[Callable[[], None]]:
    """Watch workers from outside in this context, if Slurm lets us; say why not if it does not.

    It is all of them or none: figures of a part would be taken for those of the whole.

    Args:
        workers: by name, as they were found from inside.
        directory: the run directory.
        marks: the runner's; it waits for the agents from now on.

    Returns:
        What is to be called between runs.
    """
    with ExitStack() as stack:
        measure: Callable[[], None] | None = None
        try:
            _require_jobs(workers)
            measure = _Jobs(workers, directory, marks, stack).watch()
        except (InfrastructureError, OSError) as error:
            stack.close()
            logger.warning("The workers are not seen from outside: %s", error)
        yield measure or (lambda: None)


def _require_jobs(workers: Mapping[str, Sampled]) -> None:
    if shutil.which("srun") is None:
        raise InfrastructureError("srun is not in PATH: is this a machine of the cluster?")
    for name, worker in workers.items():
        if not (worker.job and worker.node):
            raise InfrastructureError(f"{name} on {worker.host} is in no Slurm job")


@dataclass
class _Jobs:
    """The agents on the nodes of jobs, and what they watch."""

    workers: Mapping[str, Sampled]
    directory: RunDirectory
    marks: MarkWriter
    stack: ExitStack

    def watch(self) -> Callable[[], None]:
        """Begin. Raises InfrastructureError or OSError, one line, if that cannot be."""
        agents = self._agents()
        self._require_cgroups(agents)
        agents.measure(1, "start")
        clocks = agents.references()
        nodes = tuple(agents.relays)
        several = Several(_HOME, nodes)
        for answer in (self.directory.marks_ack, self.directory.settled):
            self.stack.callback(answer.unlink, missing_ok=True)
        for node, relay in agents.relays.items():
            if node == _HOME:
                place = folder = str(self.directory.path)
            else:
                folder = f"/tmp/harness-{secrets.token_hex(8)}"  # noqa: S108
                relay.ask("root", path=folder)
                place = relay.ask("begin", name=_FOLDER, files=[[], []], inputs={})
            config = SamplerConfig(
                shared=place,
                replies=place,
                containers=[
                    ContainerConfig(name, WORKER, pid=worker.pid)
                    for name, worker in self.workers.items()
                    if worker.node == node
                ],
                clock=clocks[node],
                # Home has none, so there are several from three on.
                names=_names(node) if len(nodes) > 2 else {},
                home_settles=True,
            )
            watch = self.stack.enter_context(
                relay.watch(
                    config,
                    self.directory,
                    None if node == _HOME else _FOLDER,
                    several=(several, node),
                )
            )
            for name, why in watch.answer.absent.items():
                logger.warning("%s is not seen from outside: %s", name, why)
        self.marks.confirmed(self.directory.marks_ack)
        self.stack.callback(self.marks.confirmed, None)
        return lambda: agents.measure(1, self._last_run())

    def _last_run(self) -> str:
        lines = self.directory.marks.read_text(encoding="utf-8").splitlines()
        return lines[-1].partition(",")[0]

    def _agents(self) -> Agents:
        """Start an agent on each node, in the first of the jobs that are there."""
        jobs: dict[str, str] = {}
        for worker in self.workers.values():
            jobs.setdefault(worker.node, worker.job)
        logs = self.directory.path / "logs"
        streams = {}
        for node, job in jobs.items():
            allocation = slurm.Allocation(job, [node])
            command = [
                *allocation.command(node, "harness-agent"),
                *(sys.executable, "-m", _AGENT),
            ]
            environment = allocation.environment({})
            streams[node] = slurm.StepStreams(command, environment, logs / f"agent@{node}.log")
            self.stack.callback(streams[node].close)
        relays = {_HOME: NodeRelay(ChildStreams(MODULE))}
        self.stack.callback(relays[_HOME].close)
        for node, stream in streams.items():
            try:
                relays[node] = NodeRelay(stream)
            except InfrastructureError as error:
                said = stream.step.last_words() or str(error)
                raise InfrastructureError(
                    f"no step in job {jobs[node]} on {node}: {said}"
                ) from None
            self.stack.callback(relays[node].close)
        return Agents(relays, _HOME, self.directory.nodes)

    def _require_cgroups(self, agents: Agents) -> None:
        """Make sure that each worker has a step's cgroup to itself."""
        owners: dict[tuple[str, str], str] = {}
        for name, worker in self.workers.items():
            directory, reason = agents.relays[worker.node].ask("where", pid=worker.pid)
            reason = reason or slurm.Allocation(worker.job, []).stranger(directory)
            other = owners.setdefault((worker.node, directory), name)
            if not reason and other != name:
                reason = f"it is in one step with {other}, whose memory Slurm counts together"
            if reason:
                raise InfrastructureError(f"{name} on {worker.node}: {reason}")


def _names(node: str) -> dict[str, str]:
    return {scope: f"{scope}{ON_NODE}{node}" for scope in (WORKER, "topology")}
