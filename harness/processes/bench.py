"""One bench of steps: topologies around a plan's runs, with everything ended whatever happens."""

from __future__ import annotations

import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core import interrupt
from harness.core.errors import InfrastructureError
from harness.core.files import write_whole
from harness.plan import Plan
from harness.plan.schedule import remaining
from harness.processes import slurm
from harness.processes.agents import Agents, NodeRelay
from harness.processes.machines import Machines
from harness.processes.rooms import Rooms
from harness.processes.services import Places
from harness.processes.topology import Launch, StepsTopology
from harness.results import manifest
from harness.results.directory import RunDirectory
from harness.results.documents import read_document, write_json
from harness.results.outcomes import Ending, Outcome, error_for
from harness.results.rows import OutcomeRow, RowWriter, read_table

_AGENT = "harness.processes.node"
_STOPS_THE_PLAN = frozenset({Outcome.INFRASTRUCTURE, Outcome.INTERRUPTED})


@dataclass
class StepsBench:
    """Runs a plan as steps of a job.

    Args:
        plan: with a topology.
        directory: a run directory.
        machines: the job's, or this one.
        places: where the services go.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
        rooms: unpacked images that the processes are started in; none: what is installed here.
        images: what the manifest says of these.
    """

    plan: Plan
    directory: RunDirectory
    machines: Machines
    places: Places
    say: Callable[[str], None]
    progress: Callable[[int], None]
    rooms: Rooms | None = None
    images: Mapping[str, Any] = field(default_factory=dict)
    _facts: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Run it.

        Raises:
            MeasuredFailure: if runs did not end well; those after them were done all the same.
            InfrastructureError: if a node or a service did not.
            KeyboardInterrupt: after everything was ended.
        """
        write_whole(self.directory.plan, self.plan.in_topology().text())
        self._facts = {"topologies": [], "cgroup_view_lacks": {}, "notes": self._notes()}
        if self.rooms is not None:
            self._facts |= {"runtime": self.rooms.runtime, "images": dict(self.images)}
        endings: dict[str, Ending] = {}
        try:
            with self._agents() as (nodes, root):
                self._facts["slurm" if self.machines.facts() else "machines"] = (
                    self._machines_facts(nodes)
                )
                self._facts["agent"] = {
                    "form": "step" if self.machines.facts() else "child",
                    "priority": nodes.runner.priority,
                    "clock": "the runner's node's",
                }
                launch = Launch(
                    self.plan,
                    self.directory,
                    self.machines,
                    self.places,
                    nodes,
                    root,
                    self.say,
                    self.progress,
                    self.rooms,
                )
                self._run_topologies(launch, endings)
        finally:
            with interrupt.shielded(), suppress(OSError):
                self._complete_manifest()
        interrupt.check()
        if endings:
            run_id, ending = next(iter(endings.items()))
            more = f", and {len(endings) - 1} more" if len(endings) > 1 else ""
            what = f"run {run_id}: {ending.outcome}" if run_id else str(ending.outcome)
            raise error_for(endings.values(), f"{what}: {ending.reason}{more}")

    def _notes(self) -> list[str]:
        return list(self.plan.executor.notes())

    @contextmanager
    def _agents(self) -> Iterator[tuple[Agents, str]]:
        """Provide an agent on each node, and the folder that each has made for this bench."""
        root = f"/tmp/harness-{secrets.token_hex(8)}"  # noqa: S108
        logs = self.directory.path / "logs"
        with ExitStack() as stack:
            streams = {}
            for node in self.places.nodes:
                command = [
                    *self.machines.command(node, "harness-agent"),
                    *(sys.executable, "-m", _AGENT),
                ]
                environment = self.machines.environment({})
                streams[node] = slurm.StepStreams(command, environment, logs / f"agent@{node}.log")
                stack.callback(streams[node].close)
            relays = {}
            for node, stream in streams.items():
                try:
                    relays[node] = NodeRelay(stream)
                    relays[node].ask("root", path=root)
                except (InfrastructureError, OSError) as error:
                    said = stream.step.last_words() or str(error)
                    raise InfrastructureError(
                        f"the memory sampler's agent did not start on {node}: {said}"
                    ) from None
                stack.callback(relays[node].close)
            yield Agents(relays, self.places.first, self.directory.nodes), root

    def _machines_facts(self, nodes: Agents) -> dict[str, Any]:
        return self.machines.facts() | {
            "nodes": {node: relay.ask("machine") for node, relay in nodes.relays.items()},
            "workers": self.places.names(self.plan.executor.worker_containers),
        }

    def _run_topologies(self, launch: Launch, endings: dict[str, Ending]) -> None:
        assert self.plan.topology is not None
        waiting = deque(remaining(self.plan, self.done()))
        number = 0
        while waiting:
            number += 1
            project = f"wmh{secrets.token_hex(4)}"
            topology = StepsTopology(launch, number, waiting.popleft(), project)
            self._facts.setdefault("project", project)
            self._facts["topologies"].append(
                {"project": project, "runs": [topology.runs.start + 1, topology.runs.stop]}
            )
            try:
                ending = topology.run() or self._silent(topology)
            except KeyboardInterrupt:
                self._note(topology, Ending(Outcome.INTERRUPTED, interrupt.name()))
                raise
            finally:
                self._facts["cgroup_view_lacks"] |= topology.lacks
            self.progress(len(self.done()))
            if ending is None:
                continue
            run_id = self._note(topology, ending)
            endings[run_id] = ending
            self.say(f"{run_id}: {ending.outcome}: {ending.reason}")
            if self.plan.topology.fail_fast or ending.outcome in _STOPS_THE_PLAN:
                break
            waiting = deque(remaining(self.plan, self.done()))

    def _silent(self, topology: StepsTopology) -> Ending | None:
        runs, done = self.plan.runs(), self.done()
        missing = [place for place in topology.runs if runs[place].run_id not in done]
        if not missing:
            return None
        reason = f"the runner ended and left no outcome of {len(missing)} of its runs"
        return Ending(Outcome.INFRASTRUCTURE, reason, "runner")

    def done(self) -> frozenset[str]:
        """Return the runs whose outcome is on disk."""
        if not self.directory.outcomes.exists():
            return frozenset()
        return frozenset(row.run_id for row in read_table(self.directory.outcomes, OutcomeRow).rows)

    def _note(self, topology: StepsTopology, ending: Ending) -> str:
        """Write the row of the run that a topology's ending ended; return its id."""
        done = self.done()
        mine = [self.plan.runs()[place] for place in topology.runs]
        run = next((run for run in mine if run.run_id not in done), None)
        if ending.outcome == Outcome.LEAK or run is None:
            return next((run.run_id for run in reversed(mine) if run.run_id in done), "")
        row = OutcomeRow(
            run.run_id,
            run.mode,
            run.repetition,
            ending.outcome,
            ending.reason,
            ending.service or None,
        )
        with RowWriter(self.directory.outcomes, OutcomeRow) as rows:
            rows.write(row)
        return run.run_id

    def _complete_manifest(self) -> None:
        """Add this side's part to what the runner wrote, if it did."""
        found, _ = read_document(self.directory.manifest, "manifest")
        found = (found or {}) | manifest.base_manifest(self.plan.model_dump(mode="json"))
        found["git_revision"] = manifest.git_revision(Path(__file__).parents[2])
        found |= {"host": manifest.machine() | {"software": manifest.software()}}
        write_json(self.directory.manifest, found | self._facts)
        for path in self.directory.temporary_files():
            path.unlink(missing_ok=True)
