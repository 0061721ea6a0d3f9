"""What the doctor reads of a fake engine and of this machine, and what a bench may start with."""

from __future__ import annotations

import os
import pwd
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import InfrastructureError, UsageError
from harness.plan import Plan
from harness.topology import admission, doctor, leftovers, records
from harness.topology.admission import admit
from harness.topology.checks import Check, Verdict, peaks
from harness.topology.engine import Engine
from harness.topology.records import BenchProcess
from tests.bench_plans import bench_plan
from tests.fake_engine import PROJECT, FakeEngine

GB = 10**9


class FakeAgent:
    """An agent that says what is on its machine, or does not start."""

    def __init__(self, machine: Machine, form: str, image: str) -> None:
        self.machine = machine
        machine.agents.append((form, image))

    def obstacle(self) -> str:
        assert self.machine.watching
        return self.machine.obstacle

    def clock_shift_ns(self) -> int:
        assert self.machine.watching
        return self.machine.clock_shift_ns


class Machine:
    """This machine, as the doctor finds it; all well unless a test changes it.

    Attributes:
        container: whether the agent has to be one; ``image``, from which, if there is one.
        agents: form and image of each that was made; ``watching`` while one is started.
        agent_fails: why it does not start; obstacle and clock are those that it finds.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.engine = FakeEngine()
        self.compose = "2.30.0"
        self.free_bytes = 100 * GB
        self.available_bytes = 8 * GB
        self.descriptors = 1_000_000
        self.load = 0.0
        self.container = False
        self.image = "redis:1"
        self.agents: list[tuple[str, str]] = []
        self.watching = False
        self.agent_fails: Exception | None = None
        self.obstacle = ""
        self.clock_shift_ns = 0
        self.files("tsc", "always [madvise] never", "SwapTotal: 0 kB\nSwapFree: 0 kB\n")

    def files(self, clock: str, pages: str, meminfo: str) -> None:
        (self.place / "clock").write_text(f"{clock}\n")
        (self.place / "pages").write_text(pages)
        (self.place / "meminfo").write_text(meminfo)

    def examine(self, plan: Plan | None = None, run_dir: str | None = None) -> dict[str, Check]:
        found = list(doctor.examine(plan, run_dir or str(self.place)))
        checks = {check.name: check for check in found}
        assert len(checks) == len(found)
        return checks

    @contextmanager
    def started(self, agent: FakeAgent) -> Iterator[FakeAgent]:
        if self.agent_fails is not None:
            raise self.agent_fails
        self.watching = True
        yield agent
        self.watching = False

    def agent(
        self, client: object, engine: Engine, owner: object, form: str, image: str
    ) -> FakeAgent:
        assert client is self.engine
        assert engine.version == "28.0"
        return FakeAgent(self, form, image)

    def preflight(self, **topology: Any) -> list[str]:
        plan = bench_plan(**topology)
        general = plan.general.model_copy(update={"run_dir": str(self.place)})
        return admit(plan.model_copy(update={"general": general}), self.place)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    for name in doctor._CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for module in (doctor, admission):
        monkeypatch.setattr(module, "connect", lambda: machine.engine.client)
        monkeypatch.setattr(module, "available_bytes", lambda *_: machine.available_bytes)
    monkeypatch.setattr(doctor, "wants_container", lambda *_: machine.container)
    monkeypatch.setattr(doctor, "some_image", lambda: machine.image)
    monkeypatch.setattr(doctor, "settle", lambda: "unix:///run/x (DOCKER_HOST)")
    monkeypatch.setattr(doctor, "Agent", machine.agent)
    monkeypatch.setattr(doctor, "started", machine.started)
    monkeypatch.setattr(doctor, "free_bytes", lambda _: machine.free_bytes)
    for name, file in (
        ("_CLOCK_SOURCE", "clock"),
        ("_HUGE_PAGES", "pages"),
        ("_MEMINFO", "meminfo"),
    ):
        monkeypatch.setattr(doctor, name, tmp_path / file)
    monkeypatch.setattr(leftovers, "project_cgroups", lambda _: [])
    monkeypatch.setattr(os, "getloadavg", lambda: (machine.load, 0.0, 0.0))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, machine.descriptors))

    def run(command: list[str], *_: Any) -> tuple[int, str]:
        assert command == ["docker", "compose", "version", "--short"]
        if machine.compose == "hangs":
            raise subprocess.TimeoutExpired(command, 20)
        return 0 if machine.compose else 1, f"{machine.compose or 'unknown'}\n"

    monkeypatch.setattr(doctor, "run_command", run)
    return machine


def bad(checks: dict[str, Check]) -> dict[str, Verdict]:
    return {name: check.verdict for name, check in checks.items() if check.verdict != Verdict.OK}


def test_a_machine_that_is_well_passes_every_check(machine: Machine) -> None:
    checks = machine.examine(bench_plan())
    assert bad(checks) == {}
    assert set(checks) == {
        *("engine", "API", "limits", "memory", "subnets", "clock", "leftovers", "place", "peaks"),
        *("compose", "run directory", "descriptors", "swap", "huge pages", "other load"),
        "private CA",
    }
    assert checks["engine"].found == "Docker 28.0, overlay2"
    # The network that was asked for is gone again.
    assert machine.engine.things == []
    assert machine.preflight() == []


def test_without_an_engine_the_rest_is_examined_all_the_same(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect() -> None:
        raise InfrastructureError("no engine at x: start it")

    for module in (doctor, admission):
        monkeypatch.setattr(module, "connect", connect)
    checks = machine.examine()
    assert checks["engine"] == Check("engine", Verdict.FAIL, "no engine at x", "start it")
    assert {"compose", "swap", "private CA"} < set(checks)
    assert not {"API", "place", "peaks"} & set(checks)
    with pytest.raises(InfrastructureError, match="no engine at x"):
        machine.preflight()


@pytest.mark.parametrize("version", ["", "hangs", "2.19.9"])
def test_a_compose_that_is_none_or_too_old_fails(machine: Machine, version: str) -> None:
    machine.compose = version
    assert bad(machine.examine()) == {"compose": Verdict.FAIL}
    with pytest.raises(InfrastructureError, match=r"compose: .*install the compose plug-in"):
        machine.preflight()


@pytest.mark.parametrize("missing", ["MemoryLimit", "SwapLimit", "PidsLimit"])
def test_limits_that_the_engine_lacks_are_named(machine: Machine, missing: str) -> None:
    machine.engine.facts[missing] = False
    checks = machine.examine()
    assert bad(checks) == {"limits": Verdict.WARN}
    assert checks["limits"].found == f"the engine lacks {missing}"


def test_where_the_engine_is_and_for_whom_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    place = machine.examine()["place"]
    assert place == Check(
        "place", Verdict.OK, "unix:///run/x (DOCKER_HOST), on this machine, as root"
    )
    # Another user's agent is a container on this machine.
    machine.container = True
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_name=f"u{number}"))
    assert machine.examine()["place"].found.endswith(", on this machine, as u65534")
    machine.engine.elsewhere = True
    assert machine.examine()["place"].found.endswith(", on another machine, as u65534")


def test_an_engine_that_does_not_see_this_machines_files_is_as_good_as_any(
    machine: Machine,
) -> None:
    machine.engine.elsewhere = machine.container = True
    assert bad(machine.examine()) == {}
    assert machine.preflight() == []
    assert [path.name for path in machine.place.iterdir() if "nonce" in path.name] == []


@pytest.mark.parametrize("container", [False, True])
def test_which_peaks_there_are_is_asked_of_an_agent_as_a_bench_has_it(
    machine: Machine, container: bool
) -> None:
    machine.container = container
    found = machine.examine()["peaks"]
    form = "container" if container else "child"
    assert found == peaks(2, "cgroupfs", form, "")
    assert machine.agents == [(form, "redis:1" if container else "")]
    assert not machine.watching
    machine.obstacle = "creating cgroups needs root"
    checks = machine.examine()
    assert bad(checks) == {"peaks": Verdict.WARN}
    assert "sampled for services: creating cgroups needs root" in checks["peaks"].found
    # A bench starts all the same.
    assert machine.preflight() == []


@pytest.mark.parametrize(
    "error",
    [InfrastructureError("the agent could not be started"), OSError("the agent could not")],
)
def test_an_agent_that_does_not_start_fails(machine: Machine, error: Exception) -> None:
    machine.agent_fails = error
    checks = machine.examine()
    assert bad(checks) == {"peaks": Verdict.FAIL}
    assert checks["peaks"].found == str(error)
    assert "docs/engines.md" in checks["peaks"].remedy
    assert "place" in checks


def test_without_an_image_there_is_no_agent_to_ask(machine: Machine) -> None:
    machine.image = ""
    assert bad(machine.examine()) == {}
    machine.container = True
    checks = machine.examine()
    assert bad(checks) == {"peaks": Verdict.WARN}
    assert checks["peaks"].remedy == "'make images'"
    assert machine.agents == [("child", "")]


@pytest.mark.parametrize(
    ("shift_ns", "found"),
    [
        (0, None),
        (2_500_000_000, "+2.500 s from this machine's, measured"),
        (-3_600_000_000_000, "-3600.000 s from this machine's, measured"),
    ],
)
def test_an_agent_with_another_clock_says_how_far_it_is(
    machine: Machine, shift_ns: int, found: str | None
) -> None:
    machine.container, machine.clock_shift_ns = True, shift_ns
    checks = machine.examine()
    assert bad(checks) == {}
    assert (checks["agent's clock"].found if found else checks.get("agent's clock")) == found


def test_no_room_for_a_network_fails(machine: Machine) -> None:
    machine.engine.no_subnets = True
    checks = machine.examine()
    assert bad(checks) == {"subnets": Verdict.FAIL}
    assert checks["subnets"].found == "all predefined address pools are used up"


def test_only_what_ended_benches_left_is_told(machine: Machine) -> None:
    now = BenchProcess.current()
    other = replace(now, pid=os.getppid(), started=records._started(os.getppid()) or 0)
    for number, owner in enumerate((now, other)):
        machine.engine.add("runner-1", project=f"wmhffff000{number}", owner=str(owner))
    assert bad(machine.examine()) == {}
    machine.engine.add("runner-1", owner=str(replace(now, started=now.started + 1)))
    checks = machine.examine()
    assert bad(checks) == {"leftovers": Verdict.WARN}
    assert checks["leftovers"].found == f"of ended benches: {PROJECT}"


@pytest.mark.parametrize(
    ("available_bytes", "verdict"),
    [(10**6, Verdict.FAIL), (8 * GB, None)],
)
def test_a_plan_that_does_not_fit_fails_unless_forced(
    machine: Machine, available_bytes: int, verdict: Verdict | None
) -> None:
    machine.available_bytes = available_bytes
    assert bad(machine.examine()) == {}
    assert bad(machine.examine(bench_plan())).get("memory") == verdict
    if verdict == Verdict.FAIL:
        with pytest.raises(UsageError, match=r"memory: .*or --force to start it all the same"):
            machine.preflight()
    assert machine.preflight(force=True) == []


def test_a_full_disk_fails_wherever_it_is(machine: Machine) -> None:
    machine.engine.facts["DockerRootDir"] = str(machine.place)
    machine.free_bytes = 0
    expected = {"engine's disk": Verdict.FAIL, "run directory": Verdict.FAIL}
    assert bad(machine.examine(bench_plan())) == expected
    with pytest.raises(InfrastructureError, match="run directory: "):
        machine.preflight()


def test_what_makes_figures_worse_is_a_warning_line_each(machine: Machine) -> None:
    machine.free_bytes = GB
    machine.load = float(os.cpu_count() or 1)
    machine.files("tsc", "[always] madvise never", "SwapTotal: 9 kB\nSwapFree: 4 kB\n")
    lines = machine.preflight()
    names = [line.split(": ")[:2] for line in lines]
    assert names == [
        ["fine", "run directory"],
        ["suspicious", "swap"],
        ["suspicious", "huge pages"],
        ["suspicious", "other load"],
    ]
    assert "5.12 KB of 9.22 KB used" in lines[1]


def test_the_sampler_needs_descriptors_for_every_container(machine: Machine) -> None:
    machine.descriptors = 100
    assert bad(machine.examine()) == {}
    few = machine.examine(bench_plan(workers=2))
    assert bad(few) == {}
    many = machine.examine(bench_plan(workers=50))
    assert bad(many)["descriptors"] == Verdict.FAIL
    with pytest.raises(InfrastructureError, match=r"descriptors: .*ulimit -Hn"):
        machine.preflight(workers=50)
    machine.descriptors = resource.RLIM_INFINITY
    assert "descriptors" not in bad(machine.examine(bench_plan(workers=50)))


def test_a_run_directory_may_be_made_below_what_is_there(machine: Machine) -> None:
    (machine.place / "file").touch()
    assert bad(machine.examine(run_dir=str(machine.place / "new" / "newer"))) == {}
    checks = machine.examine(run_dir=str(machine.place / "file"))
    assert bad(checks) == {"run directory": Verdict.FAIL}
    assert checks["run directory"].found == f"cannot write in {machine.place}/file"


def test_a_read_only_run_directory_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.statvfs(machine.place)
    read_only = os.statvfs_result((*found[:8], found.f_flag | os.ST_RDONLY, found[9]))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    checks = machine.examine()
    assert checks["run directory"].found == f"{machine.place} is read-only"


@pytest.mark.parametrize(
    ("system_time", "off"),
    [("2000-01-01T00:00:00.123456789Z", True), ("2000-01-01T00:00:00.5+02:00", True), ("", False)],
)
def test_an_engine_with_another_time_is_warned_of(
    machine: Machine, system_time: str, off: bool
) -> None:
    machine.engine.facts["SystemTime"] = system_time
    assert bad(machine.examine()) == ({"clock": Verdict.WARN} if off else {})


@pytest.mark.parametrize(
    ("text", "offset_s"),
    [
        ("2026-01-01T00:00:10.999999999Z", 10.0),
        ("2026-01-01T02:00:10.1+02:00", 10.0),
        ("2025-12-31T23:59:50.1", -10.0),
        ("now", 0.0),
    ],
)
def test_an_offset_is_the_engines_time_less_this_ones(
    monkeypatch: pytest.MonkeyPatch, text: str, offset_s: float
) -> None:
    monkeypatch.setattr("harness.topology.doctor.time.time", lambda: 1767225600.0)
    assert doctor._offset_s(text) == offset_s


def test_a_slow_clock_is_warned_of(machine: Machine) -> None:
    machine.files("hpet", "[never]", "SwapTotal: 0 kB\nSwapFree: 0 kB\n")
    assert bad(machine.examine()) == {"clock": Verdict.WARN}


def test_what_this_machine_does_not_say_is_no_fault(machine: Machine) -> None:
    for name in ("clock", "pages", "meminfo"):
        (machine.place / name).unlink()
    checks = machine.examine()
    assert bad(checks) == {}
    assert "swap" not in checks


def test_a_private_ca_must_be_where_its_variables_say(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = str(machine.place / "clock")
    monkeypatch.setenv("PIP_CERT", here)
    checks = machine.examine()
    assert bad(checks) == {"private CA": Verdict.WARN}
    assert checks["private CA"].found.startswith("PIP_CERT, but image builds take SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_FILE", here)
    assert machine.examine()["private CA"] == Check("private CA", Verdict.OK, here)
    monkeypatch.setenv("SSL_CERT_FILE", f"{here}-not")
    checks = machine.examine()
    assert bad(checks) == {"private CA": Verdict.FAIL}
    assert checks["private CA"].found == f"not there: SSL_CERT_FILE={here}-not"
