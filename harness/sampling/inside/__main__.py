"""The inside view, and the first process of every container.

``python -m harness.sampling.inside -- command...`` starts the command first, so that sampling
never delays it, then samples the container's processes until the command ends, and exits with
the command's code (128 + n after signal n). Whatever goes wrong with sampling is said once on
standard error and ends the sampling, never the command.

Environment:

- ``HARNESS_RUN_DIR``: run directory; without it nothing is sampled.
- ``HARNESS_INSIDE_INTERVAL``: seconds between samples (0.1).
- ``HARNESS_PROJECT``, ``HARNESS_CONTAINER``: see ``identity``.
- ``HARNESS_READY_PORT``, ``HARNESS_READY_PEER_PORT``, ``HARNESS_READY_FILE``: see ``readiness``.

This module imports no more than the start of the command needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from harness.sampling.inside.supervise import Supervisor

_USAGE_EXIT = 2


def say(message: object) -> None:
    """Write a line to standard error, the container's log."""
    sys.stderr.write(f"harness.sampling.inside: {message}\n")


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run the command in ``arguments`` (after ``--``) and return its exit code."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        say("usage: python -m harness.sampling.inside -- command [argument...]")
        return _USAGE_EXIT
    supervisor = Supervisor(command)
    if supervisor.error:
        say(supervisor.error)
    try:
        # Only now, with the service on its way: this takes longer than starting Python does.
        from harness.sampling.inside.service import look_after  # noqa: PLC0415

        look_after(supervisor, environment, say)
    except (ImportError, MemoryError) as error:
        say(f"neither readiness nor sampling: {error!r}")
    finally:
        # Even an error nobody thought of may only surface when the service has ended.
        code = supervisor.run()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
