"""One bench: topologies around a plan's runs, with everything taken down whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import UsageError
from harness.plan import Plan
from harness.results import manifest
from harness.results.directory import RunDirectory
from harness.sampling.collect import collect_reports
from harness.topology import ownership
from harness.topology.compose import COMPOSE_DIR, plan_files, services
from harness.topology.launch import Launch, LaunchedTopology, prepare
from harness.workflow.schedule import topologies


class _TakingDown:
    """Takes a topology down in a thread of its own, while the next one starts.

    Nothing is measured meanwhile: the next one's first run waits for the end of it.
    """

    def __init__(self, topology: LaunchedTopology) -> None:
        self._topology = topology
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._close, name=f"down {topology.name}")
        self._thread.start()

    def _close(self) -> None:
        try:
            self._topology.close()
        except BaseException as error:  # noqa: BLE001  # raised again by wait()
            self._error = error

    def wait(self) -> None:
        """Wait until it is down. Raises what taking it down raised, once."""
        self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error


@dataclass
class Bench:
    """Runs a plan in containers.

    Args:
        plan: with a topology.
        directory: an empty run directory.
        say: told, one line each, what is being done.
        progress: told the number of finished runs as it grows.
    """

    plan: Plan
    directory: RunDirectory
    say: Callable[[str], None]
    progress: Callable[[int], None]
    _facts: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Bring topologies up, run the plan in them, take everything down.

        Raises:
            MeasuredFailure: if a run failed.
            InfrastructureError: if engine, images or services did.
            KeyboardInterrupt: after everything was taken down.
        """
        files = plan_files(self.plan)
        self._refuse_ignored(services(files))
        launch, facts = prepare(self.plan, self.directory, files, self.say, self.progress)
        self._facts = facts | {"topologies": [], "cgroup_view_lacks": {}}
        try:
            with ExitStack() as stack:
                stack.callback(ownership.give_to_user, self.directory.path, launch.owner)
                stack.callback(collect_reports, self.directory)
                text = self.plan.in_topology().model_dump_json(indent=2)
                self.directory.plan.write_text(f"{text}\n")
                self._run_topologies(launch)
        finally:
            self._complete_manifest()

    def _run_topologies(self, launch: Launch) -> None:
        before: _TakingDown | None = None
        topology: LaunchedTopology | None = None

        def before_is_down() -> None:
            if before is not None:
                before.wait()

        try:
            for number, places in enumerate(topologies(self.plan), 1):
                topology = LaunchedTopology(launch, number, places)
                self._facts.setdefault("project", topology.name)
                try:
                    topology.run(before_is_down)
                except BaseException:
                    self.say("Taking the topology down")
                    topology.close()
                    raise
                finally:
                    self._facts["topologies"].append(topology.facts())
                    self._facts["cgroup_view_lacks"] |= topology.lacks
                before = _TakingDown(topology)
            self.say("Taking the topology down")
        finally:
            before_is_down()
            if topology is not None:
                topology.close()  # a signal may have come between its end and its taking down

    def _refuse_ignored(self, names: Sequence[str]) -> None:
        """Refuse a flag about containers that this topology has not got."""
        assert self.plan.topology is not None
        if self.plan.topology.worker_memory_limit is not None and "worker" not in names:
            raise UsageError(
                "--worker-memory-limit: here the workers are in the runner's container, which has"
                " no limit; choose an executor with worker containers"
            )

    def _complete_manifest(self) -> None:
        """Add the host's and the engine's part to what the runner wrote, if it did."""
        found = manifest.read_json(self.directory.manifest)
        found = found or manifest.base_manifest(self.plan.model_dump(mode="json"))
        found |= manifest.base_manifest(self.plan.model_dump(mode="json"))
        found["git_revision"] = manifest.git_revision(COMPOSE_DIR.parent)
        found |= {"host": manifest.machine() | {"software": manifest.software()}}
        manifest.write_manifest(self.directory.manifest, found | self._facts)
        for path in (self.directory.marks_ack, self.directory.settled):
            path.unlink(missing_ok=True)
