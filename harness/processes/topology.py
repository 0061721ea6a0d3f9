"""One topology of steps: what starts with it, and what must end with it, in this order."""

from __future__ import annotations

import base64
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.core import interrupt
from harness.core.clock import VARIABLE as CLOCK
from harness.core.clock import Reference
from harness.core.errors import InfrastructureError, UsageError
from harness.core.files import write_whole
from harness.plan import Plan
from harness.plan.estimate import run_timeout_s
from harness.plan.options import INSIDE_INTERVAL_S
from harness.processes import slurm
from harness.processes.agents import Agents
from harness.processes.machines import Machines
from harness.processes.rooms import RUN, Rooms
from harness.processes.service import (
    NAME_VARIABLE,
    NAMES_VARIABLE,
    NUMBER_VARIABLE,
    PROJECT_VARIABLE,
)
from harness.processes.services import REDIS, RUNNER, Places, Step, Topology
from harness.results.directory import RunDirectory
from harness.results.intake import Intake, Known, shared_files
from harness.results.outcomes import Ending, Outcome, parse_ending
from harness.results.schema import ON_NODE
from harness.results.shared import SharedFolder
from harness.sampling.agent.several import Several
from harness.sampling.cgroup.config import ContainerConfig, SamplerConfig
from harness.sampling.marks import parse_marks
from harness.sampling.report import collect_reports

_POLL_S = 0.1
# One fault has several consequences.
_GRACE_S = 1.0
_STOP_S = 5.0
_RUNNER_STOP_S = 3.0
_MARKS_OF_A_RUN = 64
_INSIDE_READINGS_PER_S = 60
_INFRASTRUCTURE_EXIT = 3
_ENDED_TASK = re.compile(r"srun: error: \S+: tasks? (\d+)\S*: (.*)")


@dataclass
class Launch:
    """What all topologies of a bench have in common.

    Args:
        plan: with a topology.
        directory: the run directory.
        machines: whose nodes these are.
        places: where the services go.
        nodes: the agents, which have been started.
        root: the folder on each node that everything is in.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
        rooms: unpacked images that the processes are started in, if they are.
    """

    plan: Plan
    directory: RunDirectory
    machines: Machines
    places: Places
    nodes: Agents
    root: str
    say: Callable[[str], None]
    progress: Callable[[int], None]
    rooms: Rooms | None = None


class _NotReadyError(InfrastructureError):
    """Something was not there in time."""


@dataclass
class StepsTopology:
    """A topology around some of a plan's runs.

    Args:
        launch: what it has in common with others.
        number: which of the bench's topologies it is, from 1.
        runs: places of the plan's runs that it is for.
        project: what its processes are found by.

    Attributes:
        lacks: what the cgroup view cannot read, and why.
    """

    launch: Launch
    number: int
    runs: range
    project: str
    lacks: dict[str, str] = field(default_factory=dict)
    _running: list[tuple[Step, slurm.RunningStep]] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _intakes: dict[str, Intake] = field(default_factory=dict)
    _clocks: dict[str, Reference] = field(default_factory=dict)

    def run(self) -> Ending | None:
        """Bring it up, execute its runs, take it down.

        Returns:
            How the run ended that did not end well; None if all did.

        Raises:
            UsageError: if a folder is not what it must be.
            KeyboardInterrupt: if a signal came.
        """
        try:
            with self._stack:
                return self._run()
        except _NotReadyError as error:
            return Ending(Outcome.TIMEOUT, str(error), "topology")
        except InfrastructureError as error:
            return Ending(Outcome.INFRASTRUCTURE, str(error), "topology")
        except UsageError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            reason = f"{where}{error.strerror or error}"
            return Ending(Outcome.INFRASTRUCTURE, reason, "run directory")

    @property
    def name(self) -> str:
        """Under which the agents keep its files."""
        return f"topology-{self.number}"

    def _run(self) -> Ending | None:
        launch = self.launch
        launch.nodes.measure(self.number, "start")
        self._clocks = launch.nodes.references()
        topology = self._make_folders()
        self._stack.callback(self._collect)
        self._stack.callback(self._end_steps)
        launch.say(f"Starting the topology {self.project}")
        deadline = time.monotonic() + launch.plan.general.start_timeout
        steps = topology.steps()
        for step in steps:
            if step.service == RUNNER:
                self._wait_for_redis(topology, deadline)
            self._running.append((step, self._start(step, topology)))
        found = self._wait_for_all(steps, deadline)
        configs = {
            node: self._config(node, steps, topology.folder[node], found)
            for node in launch.places.nodes
        }
        nodes = tuple(launch.places.nodes)
        several = Several(launch.places.first, nodes)
        with ExitStack() as watches:
            for node in nodes:
                watch = watches.enter_context(
                    launch.nodes.relays[node].watch(
                        configs[node], launch.directory, self.name, several=(several, node)
                    )
                )
                self.lacks |= watch.answer.absent
            ending = self._watch(several)
            launch.nodes.ask_all("stop", name=self.name)
            self._runners_intake.end_of_runs()
            with suppress(InfrastructureError, OSError):
                launch.nodes.measure(self.number, "end")
        return ending

    def _make_folders(self) -> Topology:
        launch = self.launch
        assert launch.plan.topology is not None
        shared_dir = launch.plan.topology.shared_dir
        private = Path(shared_dir or launch.directory.path) / f".private-{self.project}"
        private.mkdir(mode=0o700)
        self._stack.callback(shutil.rmtree, private, ignore_errors=True)
        first = launch.places.first
        topology = Topology(
            launch.plan,
            launch.places,
            launch.nodes.runner.ask("ports", count=2),
            self._address(),
            private,
            dict.fromkeys(launch.places.nodes, f"{launch.root}/shared/{self.name}"),
            self.runs,
            launch.rooms is not None,
        )
        for name in ("store", "secrets", "parsl"):
            (private / name).mkdir()
        if launch.rooms or topology.has_pools or launch.plan.connector_name == "file":
            self._require_shared(private)
        files = topology.secrets()
        inside = (launch.directory.memory("inside").name,)
        for node in launch.places.nodes:
            shared = SharedFolder(launch.directory.shared / self._folder_of(node))
            shared.create()
            relay = launch.nodes.relays[node]
            relay.mirror(self.name, shared)
            inputs, names = dict(files), shared_files(launch.directory)
            if node == first:
                inputs["plan.json"] = topology.inside().text().encode()
            else:
                names = list(inside), []
            relay.ask(
                "begin",
                name=self.name,
                files=names,
                inputs={key: base64.b64encode(data).decode() for key, data in files.items()}
                | {key: base64.b64encode(data).decode() for key, data in inputs.items()},
            )
            self._intakes[node] = Intake(shared, launch.directory, self._known(topology, node))
        return topology

    def _folder_of(self, node: str) -> str:
        return self.name if node == self.launch.places.first else f"{self.name}.{node}"

    @property
    def _runners_intake(self) -> Intake:
        return self._intakes[self.launch.places.first]

    def _known(self, topology: Topology, node: str) -> Known:
        plan = self.launch.plan
        runs = plan.runs()[self.runs.start : self.runs.stop]
        return Known(
            runs=frozenset(run.run_id for run in runs),
            modes=frozenset(plan.workload.modes),
            containers=frozenset(
                name for step in topology.steps() if step.node == node for name in step.names
            ),
            runner=node == self.launch.places.first,
        )

    def _address(self) -> str:
        """Return the first node's address as another node knows it."""
        nodes, first = self.launch.places.nodes, self.launch.places.first
        other = next((node for node in nodes if node != first), None)
        if other is None:
            return "127.0.0.1"
        try:
            return str(self.launch.nodes.relays[other].ask("address", host=first))
        except OSError as error:
            raise InfrastructureError(f"{other} does not know the node {first}: {error}") from None

    def _require_shared(self, private: Path) -> None:
        """Make sure that all nodes see the run directory."""
        nonce = private / "nonce"
        write_whole(nonce, self.project)
        for node in self.launch.places.nodes:
            if self.launch.nodes.relays[node].ask("reads", path=str(nonce)) != self.project:
                raise UsageError(
                    f"--run-dir {self.launch.plan.general.run_dir}: node {node} does not see it:"
                    " name a directory that all nodes share, there or with --shared-dir"
                )

    def _start(self, step: Step, topology: Topology) -> slurm.RunningStep:
        launch, machines = self.launch, self.launch.machines
        more = {
            PROJECT_VARIABLE: self.project,
            NAMES_VARIABLE: ",".join(step.names),
            "HARNESS_RUN_DIR": topology.folder[step.node],
            "HARNESS_INSIDE_INTERVAL": str(self._inside_interval_s(topology)),
            "HARNESS_PROJECT": "",
            CLOCK: str(self._clocks[step.node]),
            **step.environment,
        }
        command = machines.command(step.node, f"harness-{step.service}", len(step.names))
        if launch.rooms is not None:
            more |= {NUMBER_VARIABLE: "0", NAME_VARIABLE: step.names[0], "HARNESS_RUN_DIR": RUN}
            entry = ["python", "-m", "harness.sampling.inside", "--", *step.command]
            stack, binds = topology.stack(step), topology.binds(step)
            command += launch.rooms.command(stack, binds, more, entry)
            environment = machines.environment({})
        else:
            command += ["--label"] if len(step.names) > 1 else []
            entry = [sys.executable, "-m", "harness.processes.service", "--", *step.command]
            command += entry
            environment = machines.environment(more | machines.numbers())
        logs = launch.directory.path / "logs"
        logs = logs if self.number == 1 else logs / self.name
        log = step.names[0] if len(step.names) == 1 else f"{step.service}@{step.node}"
        return slurm.start(command, environment, logs / f"{log}.log")

    def _inside_interval_s(self, topology: Topology) -> float:
        given = self.launch.plan.general.inside_interval
        # All processes of one node together: that is where they cost.
        most = max(
            sum(len(step.names) for step in topology.steps() if step.node == node)
            for node in self.launch.places.nodes
        )
        return given or max(INSIDE_INTERVAL_S, most / _INSIDE_READINGS_PER_S)

    def _wait_for_redis(self, topology: Topology, deadline: float) -> None:
        if self.launch.plan.connector_name != REDIS:
            return
        while not self.launch.nodes.runner.ask("listens", port=topology.ports[1]):
            self._check_steps(deadline, ["redis-1"])
            time.sleep(_POLL_S)

    def _wait_for_all(
        self, steps: Sequence[Step], deadline: float
    ) -> dict[str, Mapping[str, object]]:
        """Return what the agents know of each process, once all are there."""
        wanted = {name: step.node for step in steps for name in step.names}
        found: dict[str, Mapping[str, object]] = {}
        while True:
            for node in self.launch.places.nodes:
                found |= self.launch.nodes.relays[node].ask("find", project=self.project)
            missing = [f"{name} on {node}" for name, node in wanted.items() if name not in found]
            if not missing:
                return found
            self._check_steps(deadline, missing)
            time.sleep(_POLL_S)

    def _check_steps(self, deadline: float, missing: Sequence[str]) -> None:
        """Raise what keeps the topology from coming up."""
        interrupt.check()
        for step, running in self._running:
            if running.exit_code is not None:
                said = running.last_words() or f"see {running.log}"
                raise InfrastructureError(
                    f"{step.service} on {step.node} ended (exit code {running.exit_code}): {said}"
                )
        if time.monotonic() > deadline:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise _NotReadyError(
                f"{', '.join(missing[:5])}{more} had not started within"
                f" {self.launch.plan.general.start_timeout:g} s (--start-timeout)"
            )

    def _config(
        self,
        node: str,
        steps: Sequence[Step],
        folder: str,
        found: Mapping[str, Mapping[str, object]],
    ) -> SamplerConfig:
        plan = self.launch.plan
        assert plan.topology is not None
        containers = []
        parents: dict[str, str] = {}
        for step in steps:
            if step.node != node:
                continue
            above = {str(Path(str(found[name]["directory"])).parent) for name in step.names}
            if len(step.names) > 1 and len(above) == 1 and "/step_" in min(above):
                # The step's own cgroup has a mark of all of its tasks together.
                parents[step.service] = min(above)
            for name in step.names:
                said = found[name]
                directory = str(said["directory"])
                why = str(said["reason"]) or self.launch.machines.stranger(directory)
                if why:
                    self.lacks[name] = why
                else:
                    pid = int(str(said["pid"]))
                    containers.append(ContainerConfig(name, step.service, pid=pid))
        runs = len(self.runs)
        return SamplerConfig(
            shared=folder,
            replies=folder,
            marks_limit=_MARKS_OF_A_RUN * (1 + plan.general.warmup) * runs + _MARKS_OF_A_RUN,
            containers=containers,
            service_parents=parents,
            usage_interval_ns=round(plan.topology.cgroup_interval * 1e9),
            baseline_window_ns=round(plan.general.baseline_window * 1e9),
            baseline_bound_bytes=plan.general.baseline_bound,
            baseline_timeout_ns=round(plan.general.baseline_timeout * 1e9),
            clock=self._clocks[node],
            names=spanning(steps, node),
            home_settles=len(self.launch.places.nodes) > 1,
        )

    def _watch(self, several: Several) -> Ending | None:
        """Wait for the runner's end, or for something else that it needs to end."""
        launch, intake = self.launch, self._runners_intake
        done = self._outcomes()
        run_id, since = "", time.monotonic()
        limit_s = run_timeout_s(launch.plan)
        while True:
            interrupt.check()
            time.sleep(_POLL_S)
            intake.take()
            outcomes = self._outcomes()
            if outcomes != done:
                done, since = outcomes, time.monotonic()
                launch.progress(outcomes)
                with suppress(OSError, InfrastructureError):
                    launch.nodes.measure(self.number, run_id or "start")
            marks, _ = parse_marks(intake.shared.read_end(launch.directory.marks.name, 4096))
            last = next((m.run_id for m in reversed(marks) if m.run_id), "")
            if last != run_id:
                run_id, since = last, time.monotonic()
            if any(running.exit_code is not None for _, running in self._running):
                time.sleep(_POLL_S)
                if self._runners_exit() != 0:
                    time.sleep(_GRACE_S)
                intake.take()
                ending = self._judge(several)
                return None if ending.outcome == Outcome.OK else ending
            why = self._lost_agent(several)
            if why is not None:
                reason = f"a memory sampler ended: {why}"
                launch.say(reason)
                return Ending(Outcome.INFRASTRUCTURE, reason, "sampler")
            idle_s = time.monotonic() - since
            if not run_id and idle_s > 2 * launch.plan.general.start_timeout:
                reason = f"no run began within {idle_s:.0f} s (--start-timeout)"
                return Ending(Outcome.TIMEOUT, reason, "runner-1")
            if run_id and 0 < limit_s < idle_s:
                reason = f"{run_id} took longer than {limit_s:g} s (--run-timeout)"
                return Ending(Outcome.TIMEOUT, reason)

    def _lost_agent(self, several: Several) -> str | None:
        """Return why a node is not sampled any more, None while all are."""
        for node, relay in self.launch.nodes.relays.items():
            why = relay.silent()
            if why:
                return f"{node}: {why}"
        return several.poll()

    def _outcomes(self) -> int:
        try:
            return max(0, self.launch.directory.outcomes.read_bytes().count(b"\n") - 1)
        except FileNotFoundError:
            return 0

    def _runners_exit(self) -> int | None:
        found = [r.exit_code for step, r in self._running if step.service == RUNNER]
        return found[0] if found else 0

    def _judge(self, several: Several) -> Ending:
        """Say whose fault an end was."""
        for name, count in several.killed().items():
            if count:
                reason = f"a process in {name} was killed for lack of memory"
                return Ending(Outcome.MEMORY, reason, name)
        why = self._lost_agent(several)
        if why is not None:
            # With a node its steps end, too.
            return Ending(Outcome.INFRASTRUCTURE, f"a memory sampler ended: {why}", "sampler")
        others = [
            (step, running)
            for step, running in self._running
            if step.service != RUNNER and running.exit_code is not None
        ]
        if others:
            # A service that a signal ended is where it began.
            step, running = max(others, key=lambda each: each[1].exit_code or 0)
            name = _who(step, running)
            reason = f"{name} on {step.node} ended (exit code {running.exit_code})"
            return Ending(Outcome.KILLED, reason, name)
        return self._judge_runner()

    def _judge_runner(self) -> Ending:
        code = self._runners_exit()
        if code == 0:
            return Ending(Outcome.OK)
        launch = self.launch
        with suppress(OSError, InfrastructureError):
            launch.nodes.runner.ask("send", name=self.name)
        shared = self._runners_intake.shared
        said = parse_ending(shared.read(launch.directory.ending.name, 64 * 1024))
        if said is not None:
            return said
        running = next(r for step, r in self._running if step.service == RUNNER)
        words = running.last_words() or f"the runner ended with exit code {code}"
        if code == _INFRASTRUCTURE_EXIT:
            return Ending(Outcome.INFRASTRUCTURE, words, "runner")
        if code is not None and code > 128:
            return Ending(Outcome.KILLED, f"runner-1 ended (exit code {code})", "runner-1")
        return Ending(Outcome.FAILED, words, "runner-1")

    def _end_steps(self) -> None:
        """End what still runs: the runner in order, so that it writes what it has."""
        with interrupt.shielded():
            if self._runners_exit() is None:
                self._signal(signal.SIGTERM, ["runner-1"])
                deadline = time.monotonic() + _RUNNER_STOP_S
                while self._runners_exit() is None and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
            # With the first process of a task Slurm ends all that is left of it.
            self._signal(signal.SIGKILL, [])
            for step, running in self._running:
                if self.launch.nodes.relays[step.node].gone:
                    running.process.terminate()
            deadline = time.monotonic() + _STOP_S
            for _, running in self._running:
                running.end(max(0.1, deadline - time.monotonic()))

    def _signal(self, number: int, names: Sequence[str]) -> None:
        self.launch.nodes.ask_all(
            "signal", project=self.project, names=list(names), number=int(number)
        )

    def _collect(self) -> None:
        launch = self.launch
        with interrupt.shielded():
            for node, intake in self._intakes.items():
                relay = launch.nodes.relays[node]
                with suppress(OSError, InfrastructureError):
                    relay.ask("send", name=self.name)
                unwritten = relay.unwritten(self.name)
                if unwritten:
                    launch.say(f"warning: not all that {node} wrote is here: {unwritten}")
                intake.end(str(self.number))
                for line in intake.warnings():
                    launch.say(line)
                intake.remove()
                with suppress(OSError, InfrastructureError):
                    relay.ask("drop", name=self.name)
            collect_reports(launch.directory, "" if self.number == 1 else f"@{self.number}")


def spanning(steps: Sequence[Step], node: str) -> dict[str, str]:
    """Return what scopes are called on a node of which only a part is there."""
    on: dict[str, set[str]] = {}
    for step in steps:
        for scope in (step.service, "topology"):
            on.setdefault(scope, set()).add(step.node)
    return {
        scope: f"{scope}{ON_NODE}{node}"
        for scope, nodes in on.items()
        if len(nodes) > 1 and node in nodes
    }


def _who(step: Step, running: slurm.RunningStep) -> str:
    """Return which process of a step ended first."""
    with suppress(OSError, IndexError):
        text = running.log.read_text(encoding="utf-8", errors="replace")
        told = _ENDED_TASK.search(text)
        if told is not None:
            return step.names[int(told[1])]
    return step.names[0] if len(step.names) == 1 else step.service
