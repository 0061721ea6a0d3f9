"""Start the topology's RabbitMQ with the users that the service made.

Runs in the broker's container, which has the standard library only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.globus_service.endpoint import wait_for_file

_KEYS = Path("/harness/keys")
_STATE = Path("/harness/state")
_SCRATCH = Path("/tmp/rabbitmq")  # noqa: S108  # a tmpfs of the container's own
_WAIT_S = 60.0

# Schedulers that spin while idle would cost CPU beside what is measured.
_ERLANG = "-noinput +sbwt none +sbwtdcpu none +sbwtdio none"
# The cloud's clients never see a management interface; a plug-in would be memory for nothing.
_CONFIGURATION = """\
listeners.tcp.default = 5672
load_definitions = {definitions}
loopback_users = none
log.console = true
log.console.level = warning
log.file = false
# Of the container's limit or, without one, of the machine's memory: nothing is to be throttled.
vm_memory_high_watermark.relative = 0.8
disk_free_limit.absolute = 50MB
# The payloads' own limit is the service's.
max_message_size = 67108864
"""


def main() -> None:
    """Wait for the definitions, write the configuration, become the broker."""
    definitions = _KEYS / "definitions.json"
    try:
        wait_for_file(definitions, _WAIT_S)
    except TimeoutError as error:
        print(f"the broker has no users: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    _SCRATCH.mkdir(exist_ok=True)
    configuration = _SCRATCH / "rabbitmq.conf"
    configuration.write_text(_CONFIGURATION.format(definitions=definitions), encoding="utf-8")
    plugins = _SCRATCH / "enabled_plugins"
    plugins.write_text("[].\n", encoding="utf-8")
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    # RABBITMQ_ALLOW_INPUT lets the script become Erlang instead of staying its parent, so that
    # signals and the exit code are the broker's own.
    os.execve(  # noqa: S606  # no shell
        server,
        [server],
        os.environ
        | {
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_MNESIA_BASE": str(_STATE),
            "RABBITMQ_LOG_BASE": str(_SCRATCH),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(_SCRATCH / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "LANG": "C.UTF-8",
        },
    )


if __name__ == "__main__":
    main()
