"""An allocation of Slurm, and its steps.

Everything is done with ``srun``, as the user who has the allocation. What a job's accounting says
(``sstat``, ``sacct``) is not asked: it is sampled every half a minute.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.core.command import run_command
from harness.core.environment import child_environment
from harness.core.errors import InfrastructureError, UsageError
from harness.processes.machines import ENDS_WITH_US

# What the allocation was asked for speaks to each srun within it as if it were given there.
_KEPT = frozenset({"SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID"})
_QUESTION_S = 30.0
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Allocation:
    """The nodes of a job that this process may start steps on.

    Attributes:
        job: its number.
        nodes: their names, in Slurm's order.
    """

    job: str
    nodes: Sequence[str]

    @classmethod
    def here(cls, environment: Mapping[str, str]) -> Allocation:
        """Return the allocation that this process is in.

        Raises:
            UsageError: if there is none.
            InfrastructureError: if Slurm does not say which nodes it has.
        """
        job, listed = environment.get("SLURM_JOB_ID"), environment.get("SLURM_JOB_NODELIST")
        if not job or not listed:
            raise UsageError(
                "no allocation of Slurm: run it in 'salloc --nodes N' or in a job, or let --script"
                " write one"
            )
        if shutil.which("srun") is None:
            raise InfrastructureError("srun is not in PATH: is this a machine of the cluster?")
        try:
            code, said = run_command(
                ["scontrol", "show", "hostnames", listed], _QUESTION_S, errors_too=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InfrastructureError(f"scontrol: {error}") from None
        if code or not said.split():
            raise InfrastructureError(f"scontrol show hostnames: {' '.join(said.split())[:200]}")
        return cls(job, said.split())

    def command(self, node: str, name: str, tasks: int = 1) -> list[str]:
        """Return the beginning of a command line that starts a step on a node.

        Args:
            node: where.
            name: of the step, for ``squeue``.
            tasks: how many processes it has.
        """
        return [
            *(sys.executable, "-S", "-E", "-c", ENDS_WITH_US, "srun", f"--jobid={self.job}"),
            *("--overlap", "--overcommit", "--unbuffered", "--mem=0", "--cpu-bind=none"),
            *("--nodes=1", f"--ntasks={tasks}", f"--nodelist={node}", f"--job-name={name}"),
            *("--kill-on-bad-exit=1", "--wait=0"),
        ]

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a step."""
        own = dict(child_environment() or os.environ)
        kept = {k: v for k, v in own.items() if not k.startswith(("SLURM", "SRUN")) or k in _KEPT}
        return kept | dict(more)

    def numbers(self) -> dict[str, str]:
        """Return nothing: Slurm numbers the processes of a step."""
        return {}

    def stranger(self, directory: str) -> str:
        """Say why a memory cgroup is not that of a step; empty if it is."""
        if f"/job_{self.job}/step_" in directory:
            return ""
        return f"Slurm gave its step no memory cgroup of its own ({directory})"

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the job."""
        try:
            _, version = run_command(["srun", "--version"], 10)
        except OSError:
            version = ""
        return {"version": version.strip(), "job": self.job}


class RunningStep:
    """A step that runs.

    Args:
        process: the srun of it.
        log: where its output goes.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def last_words(self) -> str:
        """Return the last line it wrote that says what was wrong."""
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [line.split("error: ", 1)[1] for line in lines if ": error: " in line[:60]]
            told = [e for e in errors if "task" not in e[:12]] or errors
            return next((line for line in reversed(told or lines) if line.strip()), "")[:300]
        return ""

    def end(self, timeout_s: float) -> None:
        """Wait for its end; if that takes too long, let Slurm end it."""
        for ask in (self.process.terminate, self.process.kill):
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                ask()
                timeout_s = 3.0
        self.process.wait()


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> RunningStep:
    """Start a step. It must be called in the main thread: the step ends with the thread."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return RunningStep(process, log)


class StepStreams:
    """The streams of an agent that is a step.

    Args:
        command: that starts it.
        environment: of the step.
        log: what it says to its standard error.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                start_new_session=True,
            )
        self.step = RunningStep(self._process, log)

    def receive(self) -> bytes:
        """Return what has come, waiting for it; nothing at the end."""
        return os.read(_open(self._process.stdout).fileno(), _PIECE_BYTES)

    def send(self, data: bytes) -> None:
        """Send. Raises OSError if the step has ended."""
        descriptor, view = _open(self._process.stdin).fileno(), memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def close(self) -> int:
        """Let it end, and return its exit code."""
        with suppress(OSError):
            _open(self._process.stdin).close()
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.step.end(2)
        return self._process.returncode


def _open(stream: IO[Any] | None) -> IO[Any]:
    assert stream is not None
    return stream
