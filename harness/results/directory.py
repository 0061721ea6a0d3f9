"""The run directory: all that one invocation leaves on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.text import NOT_UTF8, is_utf8

BENCHMARK_NAME = "workflow-memory"


@dataclass(frozen=True)
class RunDirectory:
    """Names of the files in a run directory."""

    path: Path
    csv_name: str = "results.csv"
    log_name: str = "log.txt"

    @property
    def results(self) -> Path:
        """Finished runs, in psbench's columns."""
        return self.path / self.csv_name

    @property
    def host_memory(self) -> Path:
        """Host-wide memory, in psbench's columns; named after the results file as there."""
        return self.path / self.csv_name.replace(".csv", "-memory.csv")

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / self.log_name

    @property
    def marks(self) -> Path:
        """When runs started and ended."""
        return self.path / "marks.csv"

    @property
    def shared(self) -> Path:
        """A folder for each topology that is up: all that its containers can write."""
        return self.path / "shared"

    @property
    def replies(self) -> Path:
        """A folder for each topology that is up: what the host answers its runner."""
        return self.path / "replies"

    @property
    def marks_ack(self) -> Path:
        """One byte for each mark that the host has dealt with."""
        return self.path / ".marks-ack"

    @property
    def ending(self) -> Path:
        """How the runner in a topology says a run ended badly; the host has the last word."""
        return self.path / ".ending"

    @property
    def bench(self) -> Path:
        """What ``--resume`` needs: the plan as given, and the images."""
        return self.path / "bench.json"

    @property
    def stacks(self) -> Path:
        """What every process was doing when a run's time was up."""
        return self.path / "stacks"

    def temporary_files(self) -> list[Path]:
        """Return what is of use only while a bench runs."""
        return [self.marks_ack, self.settled, self.ending, self.reserve]

    @property
    def reserve(self) -> Path:
        """Space for the last rows, given back when the disk is full."""
        return self.path / ".reserve"

    @property
    def objects(self) -> Path:
        """Objects in the connector around each run."""
        return self.path / "objects.csv"

    @property
    def outcomes(self) -> Path:
        """How each run ended."""
        return self.path / "outcomes.csv"

    @property
    def manifest(self) -> Path:
        """What was run, with what, where."""
        return self.path / "manifest.json"

    @property
    def plan(self) -> Path:
        """The plan as the runner executes it."""
        return self.path / "plan.json"

    @property
    def peaks(self) -> Path:
        """Peak memory of each run."""
        return self.path / "peaks.csv"

    @property
    def ledger(self) -> Path:
        """Where the memory is at each mark."""
        return self.path / "ledger.csv"

    @property
    def tasks(self) -> Path:
        """What ran when."""
        return self.path / "tasks.csv"

    @property
    def predictions(self) -> Path:
        """What must be alive at each stage boundary."""
        return self.path / "predictions.csv"

    @property
    def storage(self) -> Path:
        """What the connector held."""
        return self.path / "storage.csv"

    @property
    def completions(self) -> Path:
        """What the connector held whenever a task was done, where there are no barriers."""
        return self.path / "completions.csv"

    @property
    def server(self) -> Path:
        """What the memory of the connector's server was made of during traced runs."""
        return self.path / "server.csv"

    @property
    def object_stores(self) -> Path:
        """What the executor's own object stores had in use during runs."""
        return self.path / "object-stores.csv"

    @property
    def traces(self) -> Path:
        """A folder with a file for each process of the traced runs."""
        return self.path / "traces"

    @property
    def why(self) -> Path:
        """A run directory within: traced runs of the same plan."""
        return self.path / "why"

    @property
    def phases(self) -> Path:
        """How the phases around each run went."""
        return self.path / "phases.csv"

    @property
    def settled(self) -> Path:
        """The host's verdict on each baseline, while the runner waits for it."""
        return self.path / ".settled"

    @property
    def truth(self) -> Path:
        """What the probes of a calibration did."""
        return self.path / "truth.csv"

    @property
    def quality(self) -> Path:
        """Sampling quality and cross-check of the views."""
        return self.path / "quality.json"

    @property
    def page(self) -> Path:
        """The report's page."""
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        """The report's figures, for programs."""
        return self.path / "summary.json"

    @property
    def calibration(self) -> Path:
        """What a calibration found; it may lie beside the run directories instead."""
        return self.path / "calibration.json"

    @property
    def fragments(self) -> Path:
        """A folder of one report for each sampler, until they are merged into ``sampling``."""
        return self.path / ".sampling"

    @property
    def sampling(self) -> Path:
        """How well the samplers kept their clocks."""
        return self.path / "sampling.json"

    @property
    def workers(self) -> Path:
        """Workers of a cluster that the harness did not start in containers."""
        return self.path / "workers.csv"

    @property
    def nodes(self) -> Path:
        """The clocks of a topology's nodes, where there are several."""
        return self.path / "nodes.csv"

    def memory(self, view: str) -> Path:
        """Samples of one view: ``inside``, ``docker`` or ``cgroup``."""
        return self.path / f"memory-{view}.csv"


_CHOSEN = re.compile(r"[A-Za-z0-9_@+=-][A-Za-z0-9_.@+=,~#%:(){}\[\] -]{0,99}")
# What is added to a run directory after the run, or by a topology.
_ADDED = ("reproduction.json", "bundle.json")
_VIEWS = ("inside", "docker", "cgroup")


def _own_names() -> frozenset[str]:
    """Return the names that are ours whatever a user chooses, in small letters."""
    directory = RunDirectory(Path())
    paths = [
        getattr(directory, name)
        for name, member in vars(RunDirectory).items()
        if isinstance(member, property) and name not in ("results", "log")
    ]
    paths += [directory.memory(view) for view in _VIEWS]
    return frozenset(path.name.lower() for path in paths) | frozenset(_ADDED)


def name_refusal(csv_name: str, log_name: str) -> str | None:
    """Return in one line why files of these names cannot be in a run directory."""
    for flag, name in (("--csv-file", csv_name), ("--log-file", log_name)):
        if not _CHOSEN.fullmatch(name) or name.endswith((" ", ".")):
            return (
                f"{flag} {name!r}: is not a plain file name in the run directory: use up to 100"
                " ASCII letters, digits and the like, no path, and no dot at the start"
            )
        if name.lower() in _own_names():
            return f"{flag} {name}: is a name of the harness's own files; choose another"
    if not csv_name.endswith(".csv"):
        return f"--csv-file {csv_name}: must end in .csv"
    directory = RunDirectory(Path(), csv_name, log_name)
    others = {directory.results.name.lower(), directory.host_memory.name.lower()}
    if log_name.lower() in others:
        return f"--log-file {log_name}: is what --csv-file {csv_name} makes; choose another"
    if directory.host_memory.name.lower() in _own_names() - {"results-memory.csv"}:
        return f"--csv-file {csv_name}: its memory file would have a name of ours; choose another"
    return None


def create(parent: str, csv_name: str, log_name: str, now: datetime | None = None) -> RunDirectory:
    """Make a new run directory below ``parent``; two at once never share one.

    Raises:
        UsageError: if it cannot be written.
    """
    path = create_named(parent, BENCHMARK_NAME, now, log_name)
    return RunDirectory(path, csv_name, log_name)


def traced_directory(directory: RunDirectory) -> RunDirectory:
    """Return the run directory of the traced runs that belong to a bench (``--why``)."""
    return RunDirectory(directory.why, directory.csv_name, directory.log_name)


def absolute(parent: str | Path) -> Path:
    """Return where run directories go, from the root on.

    Raises:
        UsageError: if compose files and manifests, which are UTF-8, cannot name it.
    """
    base = Path(parent).absolute()
    if not is_utf8(str(base)):
        raise UsageError(f"--run-dir {str(base)!r}: {NOT_UTF8}")
    return base


def create_named(
    parent: str, kind: str, now: datetime | None = None, first_file: str = "log.txt"
) -> Path:
    """Make a new directory ``<kind>-<date>-<time>`` below ``parent``, with one empty file in it.

    Raises:
        UsageError: if it cannot be written.
    """
    stamp = (now or datetime.now()).strftime("%Y-%m-%d-%H-%M-%S")
    name = f"{kind}-{stamp}"
    try:
        base = absolute(parent)
        base.mkdir(parents=True, exist_ok=True)
        for attempt in range(1000):
            path = base / (name if attempt == 0 else f"{name}-{attempt + 1}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            # A directory can be made on some mounts where no file can.
            (path / first_file).touch()
            return path
    except OSError as error:
        raise UsageError(
            f"--run-dir {parent}: cannot write there ({error.strerror});"
            " name a directory you can write to"
        ) from None
    raise UsageError(f"--run-dir {parent}: has a thousand directories called {name}")
