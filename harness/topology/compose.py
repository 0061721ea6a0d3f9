"""One compose project: choose files, bring up, take down.

``docker compose`` is driven, not re-implemented. Every call carries the project's name, and
whatever is looked for is found by our own labels.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError
from docker.models.containers import Container

from harness.core.command import run_command
from harness.core.errors import InfrastructureError, UsageError
from harness.executors import executors
from harness.images.address import Address
from harness.images.recipe import CHECKOUT
from harness.plan import Plan
from harness.plan.options import service_variable
from harness.topology.engine import HERE, ROLE_LABEL, RUN_LABEL

COMPOSE_DIR = CHECKOUT / "compose"
_IMAGE_VARIABLE = re.compile(r"\$\{(HARNESS_IMAGE_([A-Z0-9_]+))")
# What else carries our label is no service.
_OF_COMPOSE = "com.docker.compose.service"
# Only workers are more than one.
_REPLICAS = re.compile(r"replicas: \$\{(\w+):-(\d+)\}")
_SERVICE_VARIABLE = re.compile(r"\$\{HARNESS_CGROUP_([A-Z0-9_]+)")


class ComposeTimeoutError(InfrastructureError):
    """A call of compose did not come to its end in time."""


def new_project_name() -> str:
    """Return a name no other bench has; without dashes, which nest systemd slices."""
    return f"wmh{secrets.token_hex(4)}"


def topology_files(executor: str, *connectors: str, topology: str = "") -> list[Path]:
    """Return the compose files of a topology.

    A connector needs one only for a service, and a second one (``<connector>.worker.yaml``) only
    if that changes the workers where they have containers of their own.

    Args:
        executor: name of the executor.
        connectors: names of the connectors: one, or those that one is made of.
        topology: name of the executor's file, where that depends on its options.

    Raises:
        UsageError: if the executor has no topology.
    """
    executor_file = COMPOSE_DIR / f"{topology or executor}.yaml"
    if not executor_file.is_file():
        known = [name for name in executors.names() if (COMPOSE_DIR / f"{name}.yaml").is_file()]
        raise UsageError(
            f"--executor {executor}: has no topology in {COMPOSE_DIR}; choose from"
            f" {', '.join(known)}, or use 'harness run'"
        )
    suffixes = (".yaml", ".worker.yaml") if "worker" in services([executor_file]) else (".yaml",)
    connector_files = (
        COMPOSE_DIR / "connectors" / f"{name}{suffix}" for name in connectors for suffix in suffixes
    )
    return [executor_file, *(path for path in connector_files if path.is_file())]


def plan_files(plan: Plan) -> list[Path]:
    """Return the compose files of a plan's topology.

    Raises:
        UsageError: as :func:`topology_files`.
    """
    return topology_files(
        plan.executor_name,
        *plan.connector.compose_files(),
        topology=plan.executor.containers().name,
    )


def keep_sources(files: Sequence[Path], directory: Path) -> None:
    """Copy compose files, and the one all extend, to where a run's other inputs are."""
    for path in [COMPOSE_DIR / "common.yaml", *files]:
        target = directory / path.relative_to(COMPOSE_DIR)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def service_environment(plan: Plan, files: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Return the variables that a plan sets in its services: service -> name -> value.

    Raises:
        UsageError: if there is no such service.
    """
    known = services(files)
    found: dict[str, dict[str, str]] = {}
    for plug_in in (plan.executor.containers(), plan.connector):
        for service, values in plug_in.service_environment.items():
            found.setdefault(service, {}).update(values)
    for word in plan.topology.env if plan.topology is not None else ():
        service, key, value = service_variable(word)
        if service not in known:
            raise UsageError(f"--env {word}: no service {service}: choose from {', '.join(known)}")
        found.setdefault(service, {})[key] = value
    return found


def override_text(environment: Mapping[str, Mapping[str, str]]) -> str:
    """Return a compose file that sets variables of services; JSON is YAML, too."""
    escaped = {
        service: {"environment": {key: value.replace("$", "$$") for key, value in values.items()}}
        for service, values in environment.items()
    }
    return json.dumps({"services": escaped}, indent=2) + "\n"


def image_stacks(files: Sequence[Path]) -> dict[str, str]:
    """Return environment variable -> image stack for the images that compose files name."""
    found = (_IMAGE_VARIABLE.findall(path.read_text(encoding="utf-8")) for path in files)
    return {variable: stack.lower() for pairs in found for variable, stack in pairs}


def services(files: Sequence[Path]) -> list[str]:
    """Return the services that compose files define, by their cgroup variables."""
    found = (_SERVICE_VARIABLE.findall(path.read_text(encoding="utf-8")) for path in files)
    return sorted({name.lower() for names in found for name in names})


def service_counts(plan: Plan, files: Sequence[Path]) -> dict[str, int]:
    """Return each service's number of containers in one topology of a plan."""
    counts = dict.fromkeys(services(files), 1)
    env = plan.executor.containers().environment
    for path in files:
        for variable, default in _REPLICAS.findall(path.read_text(encoding="utf-8")):
            counts["worker"] = int(env.get(variable, default))
    return counts


@dataclass
class ComposeProject:
    """A launched topology.

    Attributes:
        name: the project's name, which is also the value of the run label.
        files: compose files; paths inside them are relative to the first one's directory.
        env: variables for the files.
        place: the engine's address.
        checked: whether its services say when they are healthy, and ``up`` waits for that.
    """

    name: str
    files: Sequence[Path]
    env: Mapping[str, str]
    place: Address = HERE
    checked: bool = True

    def _command(self, *args: str) -> list[str]:
        files = [word for path in self.files for word in ("-f", str(path))]
        return ["docker", "compose", "-p", self.name, *files, *args]

    def _environment(self) -> dict[str, str]:
        # What a user's shell has set for our variables must not leak into a benchmark.
        own = {k: v for k, v in os.environ.items() if not k.startswith(("HARNESS_", "COMPOSE_"))}
        named = {
            "HARNESS_PROJECT_ID": self.name,
            "HARNESS_UNCHECKED": "false" if self.checked else "true",
        }
        return own | named | dict(self.env) | self.place.environment()

    def _call(self, *args: str, timeout_s: float) -> str:
        try:
            code, output = run_command(
                self._command(*args), timeout_s, self._environment(), errors_too=True
            )
        except subprocess.TimeoutExpired:
            raise ComposeTimeoutError(
                f"docker compose {args[0]} took longer than {timeout_s:g} s"
            ) from None
        if code != 0:
            lines = [line for line in output.splitlines() if line.strip()]
            said = lines[-1].strip() if lines else "no output"
            remedy = ""
            if "address pool" in said:
                remedy = (
                    "; remove networks that nobody needs ('harness clean', 'docker network ls')"
                )
            raise InfrastructureError(f"docker compose {args[0]} failed: {said}{remedy}")
        return output

    def config(self, form: str = "yaml") -> str:
        """Return the project as one resolved compose file, in YAML or JSON."""
        return self._call("config", "--format", form, timeout_s=60)

    def up(self, timeout_s: float = 180) -> None:
        """Start everything.

        Raises:
            InfrastructureError: if a service does not start, or become healthy, in time.
        """
        self._call(
            "up",
            "--detach",
            *(["--wait"] if self.checked else []),
            "--no-build",
            "--pull",
            "never",
            "--quiet-pull",
            timeout_s=timeout_s,
        )

    def logs(self, directory: Path, client: DockerClient) -> None:
        """Save the output of every container as ``<container>.log``."""
        directory.mkdir(parents=True, exist_ok=True)
        for container in self.containers(client):
            path = directory / f"{self.short_name(container)}.log"
            path.write_bytes(container.logs(timestamps=True))

    def down(self, client: DockerClient, timeout_s: float = 120) -> None:
        """Remove containers, networks and volumes of the project."""
        # Killed all at once first: compose stops them service by service, half a second each.
        self.kill(client)
        self._call("down", "--volumes", "--remove-orphans", "--timeout", "0", timeout_s=timeout_s)

    def kill(self, client: DockerClient) -> None:
        """Kill all containers."""
        containers = self.containers(client)
        with ThreadPoolExecutor(max(1, len(containers))) as pool:
            list(pool.map(_kill, containers))

    def containers(self, client: DockerClient) -> list[Container]:
        """Return all containers of the project, ended ones included, sorted by name."""
        labels = [f"{RUN_LABEL}={self.name}", _OF_COMPOSE]
        found = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return sorted(found, key=lambda container: str(container.name))

    def short_name(self, container: Container) -> str:
        """Return a container's name without the project: ``worker-2``."""
        return str(container.name).removeprefix(f"{self.name}-")


def _kill(container: Container) -> None:
    with suppress(APIError):  # it has ended
        container.kill()


def role(container: Container) -> str:
    """Return the service a container belongs to."""
    return container.labels.get(ROLE_LABEL, "")
