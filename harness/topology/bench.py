"""One bench: topologies around a plan's runs, with everything taken down whatever happens."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import interrupt
from harness.core.errors import InfrastructureError
from harness.images import Image
from harness.images.recipe import CHECKOUT
from harness.images.variant import Variant, published
from harness.plan import Plan
from harness.plan.schedule import looks, remaining
from harness.results import manifest
from harness.results.directory import RunDirectory
from harness.results.documents import read_document, write_json
from harness.results.outcomes import REPEATED, Ending, Outcome, error_for
from harness.results.rows import OutcomeRow, RowWriter, read_table
from harness.sampling.report import collect_reports
from harness.topology import ownership
from harness.topology.agent import Agent, started
from harness.topology.compose import keep_sources, plan_files
from harness.topology.launch import Launch, LaunchedTopology, prepare
from harness.topology.leftovers import clean_in_background
from harness.topology.reserve import keep_reserve, release_reserve
from harness.topology.resume import write_bench_file

if TYPE_CHECKING:
    from harness.analysis.stopping import Look

_STOPS_THE_PLAN = frozenset({Outcome.INFRASTRUCTURE, Outcome.INTERRUPTED})


class _TakingDown:
    """Takes a topology down in a thread of its own, while the next one starts.

    Nothing is measured meanwhile: the next one's first run waits for the end of it.
    """

    def __init__(self, topology: LaunchedTopology) -> None:
        self.topology = topology
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._close, name=f"down {topology.name}")
        self._thread.start()

    def _close(self) -> None:
        try:
            self.topology.close()
        except BaseException as error:  # noqa: BLE001  # raised again by wait()
            self._error = error

    def wait(self) -> None:
        """Wait until it is down. Raises what taking it down raised, once."""
        self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error


@dataclass
class LastTopology:
    """The topology that is being taken down, of whichever bench it is: there is one at most.

    Attributes:
        benches: those that share it, while their sessions are open.
    """

    benches: list[Bench] = field(default_factory=list)
    _going: _TakingDown | None = None

    def take_down(self, topology: LaunchedTopology) -> None:
        """Begin to take a topology down."""
        self.wait()
        self._going = _TakingDown(topology)

    def wait(self) -> None:
        """Wait until it is down. Raises what taking it down raised, once."""
        if self._going is not None:
            going, self._going = self._going, None
            going.wait()

    def wait_for(self, topologies: Sequence[LaunchedTopology]) -> None:
        """Wait until it is down, if it is one of these. Raises as :meth:`wait`."""
        if self._going is not None and any(self._going.topology is each for each in topologies):
            self.wait()

    @contextmanager
    def shared_with(self, bench: Bench) -> Iterator[None]:
        """Know a bench while its session is open; a second signal ends all that are open."""
        self.benches.append(bench)
        try:
            yield
        finally:
            self.benches.remove(bench)


@dataclass(eq=False)
class Bench:
    """Runs a plan in containers.

    Args:
        plan: with a topology.
        directory: a run directory: empty, or one to be resumed.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
        images: by stack, those to use; by default those that this checkout describes.
        variant: what replaces the locks of some of these.
        last: shared by benches that take turns.
    """

    plan: Plan
    directory: RunDirectory
    say: Callable[[str], None]
    progress: Callable[[int], None]
    images: Mapping[str, Image] | None = None
    variant: Variant | None = None
    last: LastTopology = field(default_factory=LastTopology)
    _facts: dict[str, Any] = field(default_factory=dict)
    _running: list[LaunchedTopology] = field(default_factory=list)
    _agents: list[Agent] = field(default_factory=list)
    _began: float = 0.0

    def run(self) -> None:
        """Bring topologies up, run the plan in them, take everything down.

        Raises:
            as :meth:`session`.
        """
        with self.session() as topologies:
            for _ in topologies:
                pass

    @contextmanager
    def session(self) -> Iterator[Iterator[None]]:
        """Make ready, and provide an iterator of which each step runs one topology.

        On the way out everything is taken down. There may be another session later, which goes on.

        Raises:
            MeasuredFailure: if runs did not end well; those after them were done all the same,
                unless the plan says otherwise.
            InfrastructureError: if engine, images or services did not.
            KeyboardInterrupt: after everything was taken down.
        """
        self._began = time.monotonic()
        if self.variant is not None:
            # What is written down is published, and a path is nobody else's business.
            self.plan = self.plan.with_stack(self.variant.words)
        files = plan_files(self.plan)
        launch, facts = prepare(
            self.plan,
            self.directory,
            files,
            self.say,
            self.progress,
            images=self.images,
            variant=self.variant,
        )
        if self.variant is not None:
            self.variant.save(self.directory.path)
        found, _ = read_document(self.directory.manifest, "manifest")
        earlier = found.get("topologies") or []
        self._facts = facts | {"topologies": list(earlier), "cgroup_view_lacks": {}}
        if earlier:
            self._facts["project"] = earlier[0]["project"]
        write_bench_file(self.directory.bench, self.plan, facts["images"])
        try:
            with ExitStack() as stack:
                stack.callback(ownership.give_to_user, self.directory.path, launch.owner)
                stack.callback(collect_reports, self.directory)
                stack.callback(keep_sources, files, self.directory.path / "compose" / "sources")
                stack.enter_context(self.last.shared_with(self))
                stack.enter_context(interrupt.second_ends(self._end_at_once))
                stack.enter_context(keep_reserve(self.directory.reserve))
                self._agents = [node.agent for node in launch.nodes]
                for agent in self._agents:
                    stack.enter_context(started(agent))
                self._facts["agent"] = self._agents[0].facts()
                if launch.nodes[1:]:
                    self._facts["nodes"] = [node.facts() for node in launch.nodes]
                endings: dict[str, Ending] = {}
                steps = self._run_topologies(launch, endings)
                stack.callback(steps.close)
                yield steps
        finally:
            with interrupt.shielded(), suppress(OSError):
                self._complete_manifest()
        if endings:
            raise error_for(endings.values(), _message(endings))

    def _run_topologies(
        self, launch: Launch, endings: dict[str, Ending]
    ) -> Generator[None, None, None]:
        """Run one topology in each step; note in ``endings`` how runs ended badly."""
        waiting = deque(remaining(self.plan, self.done()))
        if self._has_enough():
            waiting.clear()
        # After SIGKILL the manifest does not know of all that there were.
        number = len(list((self.directory.path / "compose").glob("project*.yaml")))
        try:
            while waiting:
                number += 1
                topology = LaunchedTopology(launch, number, waiting.popleft())
                ending = self._run_one(topology) or self._silent(topology)
                if ending is None:
                    if waiting and self._has_enough():
                        break
                    yield
                    continue
                run_id = self._note(topology, ending)
                endings[run_id] = ending
                self.say(f"{run_id}: {ending.outcome}: {ending.reason}")
                if self._ends_the_plan(ending):
                    break
                waiting = deque(remaining(self.plan, self.done()))
                yield
            self.say("Taking the topology down")
        finally:
            with interrupt.shielded():
                self.last.wait_for(self._running)
                for topology in self._running:
                    # Nothing, unless a signal came between its end and its being taken down.
                    topology.close()
                # An agent in a container brings the last rows home when a topology is taken down.
                with suppress(OSError):
                    self.progress(len(self.done()))
        interrupt.check()

    def _run_one(self, topology: LaunchedTopology) -> Ending | None:
        self._facts.setdefault("project", topology.name)
        # One is taken down while the next one starts.
        self._running = [*self._running[-1:], topology]
        try:
            ending = topology.run(self.last.wait)
        except BaseException as error:
            with interrupt.shielded():
                self.say("Taking the topology down")
                if isinstance(error, KeyboardInterrupt):
                    self._note_interrupted(topology)
                topology.close()
            raise
        finally:
            self._facts["topologies"].append(topology.facts())
            self._facts["cgroup_view_lacks"] |= topology.lacks
        with interrupt.shielded():
            # What took the one before it down has been waited for, unless this never came up.
            self.last.wait()
            if ending is not None and self._keeps(ending):
                topology.keep()
                self._say_how_to_look(topology)
            else:
                self.last.take_down(topology)
        return ending

    def _has_enough(self) -> bool:
        """Return whether ``--until`` has its answer, or no time left: then the plan ends there."""
        topology, done = self.plan.topology, self.done()
        assert topology is not None
        of_each, more = divmod(len(done), len(self.plan.workload.modes))
        if topology.until is None or more or of_each not in looks(self.plan):
            return False
        # What it left is read only now that nothing is measured.
        self.last.wait()
        # NumPy takes a quarter of a second to import, and few benches look.
        from harness.analysis.readers import read_session  # noqa: PLC0415
        from harness.analysis.stopping import look  # noqa: PLC0415

        against = None if topology.against is None else read_session(Path(topology.against))
        found = look(read_session(self.directory.path), topology.until, against)
        following = next((n for n in looks(self.plan) if n > of_each), of_each)
        stops = found.enough or is_over(topology.budget, self._began, of_each, following)
        self.say(
            f"--until {topology.until * 100:.4g}%: after {of_each} runs of each mode: {found.said}"
            + ("" if found.enough else "; the --budget is spent" if stops else "")
        )
        if stops:
            self.stop_after(of_each, found)
        return stops

    def stop_after(self, of_each: int, found: Look) -> None:
        """Let the plan end after so many runs of each mode, which all have been done."""
        self.plan = self.plan.stopped_after(of_each)
        self._facts["until"] = {"enough": found.enough, "said": found.said}
        write_bench_file(self.directory.bench, self.plan, self._facts["images"])

    def _silent(self, topology: LaunchedTopology) -> Ending | None:
        """Return an ending for a runner that ended well and did not say how its runs went."""
        runs, done = self.plan.runs(), self.done()
        missing = [place for place in topology.places if runs[place].run_id not in done]
        if not missing:
            return None
        reason = f"the runner ended and left no outcome of {len(missing)} of its runs"
        return Ending(Outcome.INFRASTRUCTURE, reason, "runner")

    def _keeps(self, ending: Ending) -> bool:
        assert self.plan.topology is not None
        return self.plan.topology.keep and ending.outcome != Outcome.INTERRUPTED

    def _ends_the_plan(self, ending: Ending) -> bool:
        assert self.plan.topology is not None
        topology = self.plan.topology
        return topology.fail_fast or topology.keep or ending.outcome in _STOPS_THE_PLAN

    def done(self) -> frozenset[str]:
        """Return the runs whose outcome is on disk."""
        if not self.directory.outcomes.exists():
            return frozenset()
        return frozenset(row.run_id for row in read_table(self.directory.outcomes, OutcomeRow).rows)

    def _note(self, topology: LaunchedTopology, ending: Ending) -> str:
        """Write the row of the run that a topology's ending ended; return its id.

        A run that leaks has its row already, and so have all if the last one had been done.
        """
        done = self.done()
        runs = self.plan.runs()
        mine = [runs[place] for place in topology.places]
        run = next((run for run in mine if run.run_id not in done), None)
        if ending.outcome == Outcome.LEAK or run is None:
            return next((run.run_id for run in reversed(mine) if run.run_id in done), "")
        release_reserve(self.directory.reserve)
        row = OutcomeRow(
            run.run_id,
            run.mode,
            run.repetition,
            ending.outcome,
            ending.reason,
            ending.service or None,
        )
        try:
            with RowWriter(self.directory.outcomes, OutcomeRow) as rows:
                rows.write(row)
        except OSError as error:
            raise InfrastructureError(
                f"run {run.run_id}: {ending.outcome}: {ending.reason}; its row could not be"
                f" written: {error.strerror}"
            ) from None
        return run.run_id

    def _note_interrupted(self, topology: LaunchedTopology) -> None:
        """Write a row for the run that was being measured, if one was."""
        if topology.has_begun(self.done()):
            with suppress(InfrastructureError):
                self._note(topology, Ending(Outcome.INTERRUPTED, interrupt.name()))

    def projects(self) -> list[str]:
        """Return the compose projects that may be up."""
        projects = [topology.name for topology in self._running]
        return projects + [agent.project for agent in self._agents if agent.is_container]

    def _end_at_once(self) -> None:
        # Benches that take turns end together.
        projects = [name for bench in self.last.benches for name in bench.projects()]
        clean_in_background(projects, self.say)

    def _say_how_to_look(self, topology: LaunchedTopology) -> None:
        # Its folders are in the agent's volume, which can go when its containers are gone.
        both = "".join(f" {agent.project}" for agent in self._agents if agent.is_container)
        self.say(
            f"Kept: {topology.name}. 'docker ps --all --filter name={topology.name}' lists its"
            f" containers, 'docker logs {topology.name}-runner-1' shows a log,"
            f" 'docker exec -it {topology.name}-runner-1 sh' opens a shell;"
            f" 'harness clean {topology.name}{both}' removes it"
        )

    def _complete_manifest(self) -> None:
        """Add the host's and the engine's part to what the runner wrote, if it did."""
        found, _ = read_document(self.directory.manifest, "manifest")
        found = found or manifest.base_manifest(self.plan.model_dump(mode="json"))
        found |= manifest.base_manifest(self.plan.model_dump(mode="json"))
        found["command"] = published(found["command"])
        found["git_revision"] = manifest.git_revision(CHECKOUT)
        found |= {"host": manifest.machine() | {"software": manifest.software()}}
        write_json(self.directory.manifest, found | self._facts)
        for path in self.directory.temporary_files():
            path.unlink(missing_ok=True)


def is_over(budget: float | None, began: float, done: int, following: int) -> bool:
    """Return whether a budget would be spent when there are ``following`` runs of each mode.

    Args:
        budget: minutes; None for ever.
        began: time.monotonic() then.
        done: runs of each mode so far.
        following: how many it would be.
    """
    spent = time.monotonic() - began
    return budget is not None and spent * following / done > budget * 60


def _message(endings: Mapping[str, Ending]) -> str:
    """Return one line about runs that did not end well."""
    run_id, ending = next(iter(endings.items()))
    what = f"run {run_id}: {ending.outcome}" if run_id else str(ending.outcome)
    more = f", and {len(endings) - 1} more" if len(endings) > 1 else ""
    again = "; --resume does it again" if ending.outcome in REPEATED else ""
    return f"{what}: {ending.reason}{more}{again}"
