"""The cgroup view: all containers' memory files, read on a grid; what the agent does in a watch.

Usage is read on every tick of the grid, the parts of it and pressure at slower rates, the kernel's
peaks at the marks.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.conversation import (
    BASELINE_START,
    NOT_WATCHED,
    RUN_END,
    RUN_START,
    STOP,
    Settled,
)
from harness.results.schema import (
    SCOPE_CONTAINER,
    SCOPE_SERVICE,
    SCOPE_TOPOLOGY,
    CgroupRow,
    partial_line,
    row_line,
)
from harness.sampling.cgroup.paths import (
    MemoryCgroup,
    Unreachable,
    cgroup_at,
    container_cgroup,
    pressure_above,
)
from harness.sampling.cgroup.reader import NO_DESCRIPTORS
from harness.sampling.cgroup.scopes import Container, Scope, ledger_rows
from harness.sampling.grid import Every
from harness.sampling.marks import AckWriter, MarksTail
from harness.sampling.settling import Flatness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness.results.schema import MarkRow
    from harness.sampling.agent.messages import RowSender
    from harness.sampling.cgroup.config import SamplerConfig

# What a row has on a tick that reads nothing but the usage.
_USAGE_CELLS = (
    "run_id",
    "container",
    "t_mono_ns",
    "t_unix_ns",
    "late_ns",
    "usage_bytes",
    "source",
)


class HostSampler:
    """All containers and scopes, and the tables their rows go to.

    Args:
        config: what is to be sampled.
        tables: ``samples``, ``peaks`` and ``ledger``.
        handled: told of each mark when its rows are on their way; ``confirm`` is to be called
            when they have arrived.
        settled: told a run and whether memory was flat here, where home says it to the runner.

    Raises OSError if replies cannot be written or descriptors run out; what else cannot be
    read is in ``absent``.
    """

    def __init__(
        self,
        config: SamplerConfig,
        tables: Mapping[str, RowSender],
        handled: Callable[[MarkRow], None],
        settled: Callable[[str, Settled], None],
    ) -> None:
        self._config = config
        self._handled = handled
        self._settled = settled
        self._now = config.clock.now
        self.absent: dict[str, str] = {}
        self.ended: list[str] = []
        self.stopped = False
        self._run = ""
        self._marks = MarksTail(config.marks)
        self._marks_left = config.marks_limit
        self._ack = AckWriter(config.ack)
        self._containers: list[Container] = []
        self._scopes: list[Scope] = []
        try:
            self._open_containers()
            self._open_scopes()
        except OSError:
            self._let_go()
            raise
        self._stat_due = Every(config.stat_interval_ns, config.usage_interval_ns)
        self._slow_due = Every(config.slow_interval_ns, config.usage_interval_ns)
        self._usage_line = partial_line(CgroupRow, _USAGE_CELLS)
        # A view that can read nothing has no rows, so that an empty file is never mistaken for a
        # quiet one.
        self._samples = tables["samples"]
        self._peaks = tables["peaks"]
        self._ledger = tables["ledger"]
        self._settled_file = Path(config.settled)
        self._settling: tuple[str, Flatness] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the containers that can be sampled."""
        return [container.name for container in self._containers]

    def _open_containers(self) -> None:
        for each in self._config.containers:
            if each.directory:
                found = cgroup_at(each.directory)
            else:
                found = container_cgroup(each.pid, each.id)
            if isinstance(found, Unreachable):
                self.absent[each.name] = found.reason
                continue
            try:
                self._containers.append(Container(each.name, each.service, found))
            except OSError as error:
                if error.errno in NO_DESCRIPTORS:
                    raise
                self.absent[each.name] = f"{found.directory}: {error.strerror}"

    def _open_scopes(self) -> None:
        scopes = self._scopes
        for container in self._containers:
            scopes.append(Scope(SCOPE_CONTAINER, container.name, [container], container.cgroup))
        for service in dict.fromkeys(each.service for each in self._config.containers):
            members = [c for c in self._containers if c.service == service]
            parent = self._parent(self._config.service_parents.get(service), members)
            if service not in self._config.service_parents and self._is_alone(service, members):
                parent = members[0].cgroup
            if members or parent:
                name = self._config.names.get(service, service)
                scopes.append(Scope(SCOPE_SERVICE, name, members, parent))
        parent = self._parent(self._config.topology_parent, self._containers)
        if self._containers or parent:
            name = self._config.names.get("topology", "topology")
            scopes.append(Scope(SCOPE_TOPOLOGY, name, self._containers, parent))
        for scope in scopes:
            if scope.reason:
                self.absent[f"{scope.kind} peak of {scope.name}"] = scope.reason

    def _is_alone(self, service: str, members: list[Container]) -> bool:
        """Say whether one container is all of a service: what it uses is what the service uses."""
        return len(members) == sum(each.service == service for each in self._config.containers) == 1

    def _parent(self, directory: str | None, members: list[Container]) -> MemoryCgroup | None:
        if directory is None:
            return None
        found = cgroup_at(directory)
        if isinstance(found, Unreachable):
            self.absent[directory] = found.reason
            return None
        # An engine that sees another cgroup tree than we do makes its own directories of that
        # name elsewhere; the one here would then stay empty.
        strangers = [m for m in members if not m.cgroup.directory.startswith(directory + "/")]
        if strangers:
            self.absent[directory] = f"{strangers[0].name} is in {strangers[0].cgroup.directory}"
            return None
        if found.pressure is None and members:
            return replace(found, pressure=pressure_above(members[0].cgroup, directory))
        return found

    def tick(self, index: int, late_ns: int) -> None:
        """Read what is due on this tick and write a row for each container."""
        stat_due = self._stat_due.due(index)
        slow_due = self._slow_due.due(index)
        if stat_due or slow_due:
            self._sample(self._containers, late_ns, stat=stat_due, slow=slow_due)
        else:
            self._sample_usage(late_ns)
        if self._run:
            for scope in self._scopes:
                scope.saw_usage()
                if stat_due:
                    scope.saw_anon()
        if self._settling is not None:
            self._watch_baseline(*self._settling)
        self._samples.flush_if_due()

    def _watch_baseline(self, run_id: str, flatness: Flatness) -> None:
        usage = sum(container.usage or 0 for container in self._containers)
        verdict = flatness.add(time.monotonic_ns(), usage)
        if verdict is not None:
            self._settling = None
            self._say(run_id, verdict)

    def _say(self, run_id: str, verdict: Settled) -> None:
        if self._config.home_settles:
            self._settled(run_id, verdict)
        else:
            self.tell(run_id, verdict)

    def tell(self, run_id: str, verdict: Settled) -> None:
        """Tell the runner whether memory was flat."""
        with self._settled_file.open("a", encoding="ascii") as file:
            file.write(verdict.line(run_id))

    def _sample_usage(self, late_ns: int) -> None:
        # The fast path, most rows of all: only the usage is read, and the line is put together
        # without a dataclass.
        run, now = self._run, self._now
        write = self._samples.write
        line = self._usage_line
        for container in self._containers:
            usage = container.read_usage()
            if usage is None:
                self._note_end(container)
                continue
            write(line % (run, container.name, *now(), late_ns, usage, container.source))

    def _sample(
        self, containers: Iterable[Container], late_ns: int | None, *, stat: bool, slow: bool
    ) -> None:
        for container in containers:
            t_mono_ns, t_unix_ns = self._now()
            usage = container.read_usage()
            parts = container.read_stat() if stat else None
            pressure, oom_kill = container.read_slow() if slow else (None, None)
            if usage is None:
                self._note_end(container)
                continue
            row = CgroupRow(
                run_id=self._run,
                container=container.name,
                t_mono_ns=t_mono_ns,
                t_unix_ns=t_unix_ns,
                late_ns=late_ns,
                usage_bytes=usage,
                anon_bytes=parts.anon_bytes if parts else None,
                file_bytes=parts.file_bytes if parts else None,
                shmem_bytes=parts.shmem_bytes if parts else None,
                kernel_bytes=parts.kernel_bytes if parts else None,
                inactive_file_bytes=parts.inactive_file_bytes if parts else None,
                psi_some_us=pressure.some_us if pressure else None,
                psi_full_us=pressure.full_us if pressure else None,
                oom_kill=oom_kill,
                source=container.source,
                active_file_bytes=parts.active_file_bytes if parts else None,
                swap_bytes=parts.swap_bytes if parts else None,
                sock_bytes=parts.sock_bytes if parts else None,
            )
            self._samples.write(row_line(row))

    def _note_end(self, container: Container) -> None:
        if container.reader.ended and not container.end_noted:
            container.end_noted = True
            self.ended.append(container.name)

    def handle_marks(self) -> bool:
        """Do what new marks ask for; return whether there were any."""
        marks = self._marks.poll()
        for mark in marks:
            self._marks_left -= 1
            if self._marks_left < 0:
                raise ValueError(f"{self._config.marks}: has more marks than the runs can make")
            self._handle(mark)
            self._handled(mark)
        return bool(marks)

    def confirm(self) -> None:
        """Tell the runner that the rows up to its next unconfirmed mark are safe."""
        self._ack.ack()

    def oom_kills(self) -> dict[str, int]:
        """Return each container's kills for lack of memory so far, where they can be counted."""
        for container in self._containers:
            container.read_slow()
        return {each.name: each.oom_kill for each in self._containers if each.oom_kill is not None}

    def _handle(self, mark: MarkRow) -> None:
        if mark.mark == RUN_START:
            self._end_run()
            self._start_run(mark.run_id)
        elif mark.mark == RUN_END:
            self._end_run()
        elif mark.mark == STOP:
            self._end_run()
            self.stopped = True
        elif mark.mark == BASELINE_START:
            self._start_baseline(mark.run_id)
        if mark.mark != STOP:
            user, clock = self._config.user, self._config.clock
            for row in ledger_rows(self._scopes, self._containers, mark.run_id, mark.mark, user):
                t_ns = None if row.t_mono_ns is None else row.t_mono_ns + clock.shift_ns
                self._ledger.write(row_line(replace(row, t_mono_ns=t_ns)))
        self._flush()

    def _start_baseline(self, run_id: str) -> None:
        config = self._config
        if not self._containers:
            self._say(run_id, Settled(NOT_WATCHED))
            return
        self._settling = (
            run_id,
            Flatness(
                time.monotonic_ns(),
                config.baseline_window_ns,
                config.baseline_bound_bytes,
                config.baseline_timeout_ns,
            ),
        )

    def _start_run(self, run_id: str) -> None:
        self._run = run_id
        self._sample(self._containers, None, stat=True, slow=True)
        for scope in self._scopes:
            scope.start()

    def _end_run(self) -> None:
        if not self._run:
            return
        # The runner waits for the acknowledgement, so a last reading still belongs to the run.
        self._sample(self._containers, None, stat=True, slow=True)
        for scope in self._scopes:
            scope.saw_usage()
            scope.saw_anon()
            row = scope.peak(self._run, self._config.usage_interval_ns)
            if not scope.over:
                self._peaks.write(row_line(row))
        self._run = ""

    def _flush(self) -> None:
        for writer in (self._samples, self._peaks, self._ledger):
            writer.flush()

    def close(self) -> None:
        """End a run still in progress, so that it keeps its peaks, and let go of everything."""
        try:
            self._end_run()
            self._flush()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._marks.close()
        self._ack.close()
        for scope in self._scopes:
            scope.close()
        for container in self._containers:
            container.reader.close()
