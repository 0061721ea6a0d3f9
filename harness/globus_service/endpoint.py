"""The topology's endpoint: its login, and a real ``globus-compute-endpoint`` configured for it.

What a client of the topology needs to log in, as files in a directory.

The directory appears complete: the files are written elsewhere on the same file system and renamed.
Imported by runner, endpoint and service: the standard library only.

Start a real ``globus-compute-endpoint`` in its container, configured for the topology.

Template mode: the core endpoint starts a user endpoint for the tasks, as the service tells it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.files import write_whole

CA_FILE = "ca.pem"
_CLIENT_FILE = "client.json"
_POLL_S = 0.05


@dataclass(frozen=True)
class ClientLogin:
    """A client identity: the SDK's ``GLOBUS_COMPUTE_CLIENT_ID`` and ``_SECRET``."""

    client_id: str
    client_secret: str


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, whole or not at all."""
    write_whole(path, content, mode=0o600)


def write_login(directory: Path, login: ClientLogin, ca: bytes | None = None) -> None:
    """Write a login, its CA first: the client's file is what others wait for."""
    if ca is not None:
        write_private(directory / CA_FILE, ca)
    write_private(directory / _CLIENT_FILE, json.dumps(asdict(login)).encode())


def read_login(directory: Path) -> ClientLogin | None:
    """Return the client identity in a directory, None if there is none."""
    try:
        return ClientLogin(**json.loads((directory / _CLIENT_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def wait_for_file(path: Path, timeout_s: float) -> None:
    """Wait until a file is there.

    Raises:
        TimeoutError: if it is not after ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not appear within {timeout_s:g} s")
        time.sleep(_POLL_S)


def wait_for_login(directory: Path, timeout_s: float) -> None:
    """Wait until a login is written.

    Raises:
        TimeoutError: as :func:`wait_for_file`.
    """
    wait_for_file(directory / _CLIENT_FILE, timeout_s)


def login_environment(directory: Path) -> dict[str, str]:
    """Return the SDK's variables for a login directory; empty if it holds no client identity."""
    found = read_login(directory)
    environment = {}
    if found is not None:
        environment["GLOBUS_COMPUTE_CLIENT_ID"] = found.client_id
        environment["GLOBUS_COMPUTE_CLIENT_SECRET"] = found.client_secret
    if (directory / CA_FILE).exists():
        environment["GLOBUS_SDK_VERIFY_SSL"] = str(directory / CA_FILE)
    return environment


ENGINES = {
    "thread": "ThreadPoolEngine",
    "process": "ProcessPoolEngine",
    "htex": "GlobusComputeEngine",
}
"""Word of ``--globus-engine`` -> type of the engine."""

_LOGIN = Path("/harness/login")
_HOME = Path("/tmp/globus_compute")  # noqa: S108  # a tmpfs of the container's own
_NAME = "harness"
_WAIT_S = 60.0
# How soon the service notices that a user endpoint is gone depends on it; a heartbeat is 1 kB.
_HEARTBEAT_S = 5


def user_template(engine: str, workers: int) -> dict[str, object]:
    """Return a user endpoint's configuration.

    Args:
        engine: a word of ``ENGINES``.
        workers: number of workers.

    Raises:
        ValueError: for another word.
    """
    if engine not in ENGINES:
        raise ValueError(f"HARNESS_GLOBUS_ENGINE: {engine!r} is none of {', '.join(ENGINES)}")
    options: dict[str, object] = {"type": ENGINES[engine]}
    if engine == "htex":
        options |= {
            "max_workers_per_node": workers,
            # There are as many workers as were asked for, however few processors there are.
            "cores_per_worker": 0.5 / workers,
            "address": "127.0.0.1",
            # Workers are started by the first look at what there is, after such a period.
            "job_status_kwargs": {"strategy_period": 1.0},
            "provider": {
                "type": "LocalProvider",
                "init_blocks": 1,
                "min_blocks": 1,
                "max_blocks": 1,
            },
        }
    else:
        options["max_workers"] = workers
    return {
        # It stays until the topology goes: an idle benchmark may be a sleeping one.
        "idle_heartbeats_soft": 0,
        "heartbeat_period": _HEARTBEAT_S,
        "engine": options,
    }


def write_configuration(home: Path, engine: str, workers: int) -> None:
    """Write the endpoint's directory. JSON is YAML, and has no template's braces doubled."""
    directory = home / _NAME
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    configuration = {"display_name": _NAME, "heartbeat_period": _HEARTBEAT_S}
    (directory / "config.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    template = json.dumps(user_template(engine, workers), indent=1)
    (directory / "user_config_template.yaml.j2").write_text(template, encoding="utf-8")
    (directory / "user_config_schema.json").write_text(
        json.dumps({"type": "object"}), encoding="utf-8"
    )


def user_database(scratch: Path) -> dict[str, str]:
    """Give the container's user a name, which the endpoint asks for; return the variables.

    The user id is chosen at run time and is in no image's ``/etc/passwd``, and the root file system
    is read-only: nss_wrapper lets the C library read another file.
    """
    passwd, group = scratch / "passwd", scratch / "group"
    passwd.write_text(
        f"harness:x:{os.getuid()}:{os.getgid()}:harness:/tmp:/bin/sh\n", encoding="utf-8"
    )
    group.write_text(f"harness:x:{os.getgid()}:\n", encoding="utf-8")
    return {
        # The endpoint writes its title over its environment, where the wrapper looks.
        "SPT_NOENV": "1",
        "LD_PRELOAD": "libnss_wrapper.so",
        "NSS_WRAPPER_PASSWD": str(passwd),
        "NSS_WRAPPER_GROUP": str(group),
    }


def main() -> None:
    """Wait for a login, write the configuration, become the endpoint."""
    environment = os.environ
    try:
        engine = environment.get("HARNESS_GLOBUS_ENGINE", "htex")
        write_configuration(_HOME, engine, int(environment.get("HARNESS_GLOBUS_WORKERS", "4")))
        wait_for_login(_LOGIN, _WAIT_S)
    except (ValueError, TimeoutError) as error:
        print(f"the endpoint cannot start: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    # The same after a restart of the container, and another one in each.
    endpoint = uuid.uuid5(uuid.NAMESPACE_DNS, os.uname().nodename)
    # When it ends it signals its process group, which must not have the container's first process.
    os.setsid()
    program = str(Path(sys.executable).with_name("globus-compute-endpoint"))
    arguments = ["start", _NAME, "--endpoint-uuid", str(endpoint), "--log-to-console"]
    os.execve(  # noqa: S606  # no shell
        sys.executable,
        [sys.executable, "-m", "harness.globus_service.forks", program, *arguments],
        environment
        | login_environment(_LOGIN)
        | user_database(Path("/tmp"))  # noqa: S108
        | {"GLOBUS_COMPUTE_USER_DIR": str(_HOME), "USER": "harness"},
    )


if __name__ == "__main__":
    main()
