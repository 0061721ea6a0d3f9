"""Parsl: threads, worker processes of this machine, or worker pools in containers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from harness.core.errors import UsageError, missing_package
from harness.core.flags import Flag
from harness.executors._protocol import ExecutorConfig, ExecutorTopology, executors

# Where worker pools that were not started here find the certificates (compose/parsl-htex.yaml).
POOLS_DIR_VARIABLE = "HARNESS_PARSL_DIR"

Kind = Literal["thread", "htex-local", "htex"]


class ParslTopology(ExecutorTopology["ParslConfig"]):
    """The runner alone, or with worker containers."""

    @property
    def name(self) -> str:
        """Return ``parsl-htex`` for worker containers, else ``parsl``: the runner alone."""
        return "parsl-htex" if self.options.kind == "htex" else "parsl"

    @property
    def environment(self) -> dict[str, str]:
        """Scale the worker service, where there is one."""
        options = self.options
        return {"HARNESS_WORKERS": str(options.max_workers)} if options.kind == "htex" else {}

    @classmethod
    def variants(cls, name: str) -> Mapping[str, tuple[str, ...]]:
        """Have one row for each of Parsl's executors."""
        return {
            f"{name}-{kind}": ("--parsl-executor", kind, "--parsl-max-workers", "2")
            for kind in ("thread", "htex-local", "htex")
        }


@executors.register("parsl")
class ParslConfig(ExecutorConfig):
    """Options of the Parsl executors."""

    name = "parsl"
    topology = ParslTopology
    death_errors = frozenset({"BrokenProcessPool", "ManagerLost", "WorkerLost"})
    packages = ("parsl",)

    kind: Annotated[
        Kind | None,
        Flag(
            "--parsl-executor",
            "threads, worker processes beside the runner, or worker pools in containers of their"
            " own (htex: 'harness bench' only)",
            choices=("thread", "htex-local", "htex"),
        ),
    ] = None
    max_workers: Annotated[
        int | None,
        Flag(
            "--parsl-max-workers",
            "number of workers; with --parsl-config, how many to wait for",
            "N",
        ),
    ] = Field(default=None, gt=0)
    config_file: Annotated[
        str | None,
        Flag(
            "--parsl-config",
            "Python file that defines 'config', a parsl.Config, to be used instead of"
            " --parsl-executor ('harness run' only)",
            "FILE",
        ),
    ] = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.config_file is not None:
            if self.kind is not None:
                raise ValueError(
                    "--parsl-config: brings its own executor, leave out --parsl-executor"
                )
            return self
        if self.kind is None:
            raise ValueError(
                "--parsl-executor: is required: thread, htex-local or htex (or --parsl-config)"
            )
        if self.max_workers is None:
            raise ValueError("--parsl-max-workers: is required: number of workers")
        return self

    def check(self, *, containers: bool) -> None:
        """Refuse what cannot work here.

        Raises:
            UsageError: for ``htex`` without its containers, a configuration file in containers,
                and a file that is none.
            InfrastructureError: if Parsl is needed here and not installed.
        """
        if containers:
            if self.config_file is not None:
                raise UsageError(
                    "--parsl-config: is for 'harness run'; in containers choose --parsl-executor"
                )
            return
        if self.kind == "htex" and POOLS_DIR_VARIABLE not in os.environ:
            raise UsageError(
                "--parsl-executor htex: its worker pools are containers: use 'harness bench',"
                " htex-local, or your own configuration (--parsl-config)"
            )
        if importlib.util.find_spec("parsl") is None:
            raise missing_package("--executor parsl", "parsl", "parsl")
        if self.config_file is not None:
            from harness.executors._parsl_kernel import load_config  # noqa: PLC0415

            load_config(self.config_file)

    def start(self, timeout_s: float) -> AbstractContextManager[Executor]:
        """Start Parsl and, for ``htex-local``, a pool of worker processes."""
        from harness.executors import _parsl_kernel  # noqa: PLC0415  # 0.5 s, only when used

        if self.config_file is not None:
            config = _parsl_kernel.load_config(self.config_file)
            return _parsl_kernel.users_own(config, self.max_workers)
        assert self.max_workers is not None
        if self.kind == "thread":
            return _parsl_kernel.threads(self.max_workers)
        if self.kind == "htex-local":
            return _parsl_kernel.local_pool(self.max_workers, timeout_s)
        return _parsl_kernel.pools_elsewhere(
            self.max_workers, os.environ[POOLS_DIR_VARIABLE], timeout_s
        )

    def wait_ready(
        self, executor: Executor, warm_up: Callable[..., Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Wait until all workers are connected and run ``warm_up`` in each."""
        from harness.executors import _parsl_kernel  # noqa: PLC0415

        assert isinstance(executor, _parsl_kernel.ParslPoolExecutor)
        return executor.wait_ready(warm_up, timeout_s)

    def trim(self, executor: Executor, trim: Callable[[], Any]) -> tuple[str, ...]:
        """Trim every worker; Parsl's own processes run nothing for others."""
        from harness.executors import _parsl_kernel  # noqa: PLC0415

        assert isinstance(executor, _parsl_kernel.ParslPoolExecutor)
        return () if self.in_client_process else executor.trim(trim)

    def call_in_each(self, executor: Executor, call: Callable[[], Any]) -> tuple[str, ...]:
        """Call it in every worker, as for trimming; Parsl's own processes attend by themselves.

        Those that a configuration of the user's starts may be anywhere.
        """
        from harness.executors import _parsl_kernel  # noqa: PLC0415

        assert isinstance(executor, _parsl_kernel.ParslPoolExecutor)
        if self.in_client_process:
            return ()
        own = (_parsl_kernel.OWN,) if self.config_file is not None else ()
        return *executor.call_in_each(call), *own

    @property
    def in_client_process(self) -> bool:
        """Threads do."""
        return self.kind == "thread"

    @property
    def worker_count(self) -> int:
        """As many as are waited for."""
        return self.max_workers or super().worker_count
