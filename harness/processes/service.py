"""The first process of a service that is no container: it starts the service and samples it.

``python -m harness.processes.service -- COMMAND...`` does for a process what
``harness.sampling.inside`` does for a container. It looks at what it started and at everything
below that, because the rest of the machine is in sight, too. One command line serves all processes
of a step: each takes the name at its own place, and puts it where ``{name}`` is.

Environment:

- ``HARNESS_NAMES``: what the processes of the step are called, joined by commas.
- ``SLURM_PROCID``: which of them this is.
- ``HARNESS_RUN_DIR``, ``HARNESS_INSIDE_INTERVAL``: as for ``harness.sampling.inside``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from harness.sampling.inside.supervise import Supervisor

PROJECT_VARIABLE = "HARNESS_STEPS"
NAME_VARIABLE = "HARNESS_CONTAINER"
NAMES_VARIABLE = "HARNESS_NAMES"
NUMBER_VARIABLE = "SLURM_PROCID"
_USAGE_EXIT = 2


def own_name(environment: Mapping[str, str]) -> str:
    """Return what this process of a step is called."""
    names = environment.get(NAMES_VARIABLE, "").split(",")
    return names[min(int(environment.get(NUMBER_VARIABLE) or 0), len(names) - 1)]


def main(arguments: list[str]) -> int:
    """Run the command in ``arguments`` (after ``--``) and return its exit code."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    name = own_name(os.environ)
    if not command or not name:
        sys.stderr.write(
            "usage: HARNESS_NAMES=NAME python -m harness.processes.service -- COMMAND\n"
        )
        return _USAGE_EXIT
    os.environ[NAME_VARIABLE] = name
    supervisor = Supervisor([word.replace("{name}", name) for word in command])
    if supervisor.error:
        sys.stderr.write(f"harness.processes.service: {supervisor.error}\n")
    try:
        _sample(supervisor, name)
    except (ImportError, OSError, ValueError, MemoryError) as error:
        sys.stderr.write(f"harness.processes.service: sampling stopped: {error!r}\n")
    finally:
        code = supervisor.run()
    return code


def _sample(supervisor: Supervisor, name: str) -> None:
    run_dir = os.environ.get("HARNESS_RUN_DIR")
    if not run_dir:
        return
    # With the service on its way: this takes longer than starting Python does.
    from harness.sampling.inside.sampler import sample_until  # noqa: PLC0415
    from harness.sampling.process_tree import ProcessTree  # noqa: PLC0415

    sample_until(
        lambda: supervisor.ended,
        sleep=supervisor.wait,
        run_dir=run_dir,
        container=name,
        interval_s=float(os.environ.get("HARNESS_INSIDE_INTERVAL") or 0.1),
        processes=ProcessTree(os.getpid()),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
