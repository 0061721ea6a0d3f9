"""What is refused before anything starts, whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from docker.errors import APIError

from harness.cli import _bench, bench, calibrate
from harness.core.errors import HarnessError, InfrastructureError, UsageError
from harness.plan import Plan
from harness.reproduce import rerun
from harness.topology import admission, doctor
from harness.topology.engine import Engine
from tests.bundles import small_bundle

DOCUMENT: dict[str, Any] = {
    "executor_name": "thread",
    "executor": {},
    "connector_name": "local",
    "connector": {},
    "workload": {
        "modes": ["none"],
        "stage_task_counts": [1],
        "stage_bytes_sizes": [1, 1],
        "task_sleep": 0.0,
    },
    "general": {},
    "topology": {},
}
FLAGS = (
    "--executor thread --ps-connector local --data-management none --stage-task-counts 1"
    " --stage-bytes-sizes 1 1 --task-sleep 0"
)


class FakeEngine:
    """An engine that refuses every container, for a reason of the test's."""

    def __init__(self, reason: str) -> None:
        self.api = self
        self._reason = reason
        self.asked: list[str] = []

    def create_host_config(self, mounts: list[dict[str, Any]]) -> dict[str, Any]:
        (mount,) = mounts
        return dict(mount)

    def create_container(self, image: str, host_config: dict[str, Any]) -> None:
        assert Path(host_config["Source"]).is_dir()
        self.asked.append(image)
        raise APIError("no", requests.Response(), self._reason)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine("No such image: x")
    facts = Engine("28.0", "1.48", 2, "systemd", "overlay2", 2**36, 4)
    monkeypatch.setattr(admission, "connect", lambda: fake)
    monkeypatch.setattr(admission, "describe", lambda _: facts)
    monkeypatch.setattr(admission, "available_bytes", lambda *_: 2**33)
    monkeypatch.setattr(doctor, "compose_version", lambda: "2.26.1")
    return fake


def plan(**sections: dict[str, Any]) -> Plan:
    changed = {name: DOCUMENT[name] | change for name, change in sections.items()}
    return Plan.model_validate(DOCUMENT | changed)


@pytest.mark.usefixtures("engine")
def test_what_fits_is_admitted(tmp_path: Path) -> None:
    for line in admission.admit(plan(), tmp_path / "runs"):
        assert line.startswith(("fine: ", "suspicious: "))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"workload": {"stage_bytes_sizes": [10**12, 1]}}, "--force"),
        ({"topology": {"worker_memory_limit": 2**30}}, "--worker-memory-limit"),
        ({"general": {"csv_file": "marks.csv"}}, "--csv-file"),
    ],
)
def test_what_cannot_work_is_refused(sections: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        admission.admit(plan(**sections), tmp_path)


@pytest.mark.usefixtures("engine")
def test_a_limit_that_the_engine_would_drop_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Engine("28.0", "1.48", 1, "none", "overlay2", 2**36, 4, rootless=True)
    monkeypatch.setattr(admission, "describe", lambda _: facts)
    monkeypatch.setattr(admission, "services", lambda _: ["worker"])
    admission.admit(plan(), tmp_path)
    with pytest.raises(InfrastructureError, match=r"^--worker-memory-limit: .*cgroup v2"):
        admission.admit(plan(topology={"worker_memory_limit": 2**30}), tmp_path)


@pytest.mark.usefixtures("engine")
def test_only_force_starts_what_does_not_fit(tmp_path: Path) -> None:
    big = {"stage_bytes_sizes": [10**12, 1]}
    admission.admit(plan(workload=big, topology={"force": True}), tmp_path)


def test_an_engine_that_sees_other_files_is_admitted(engine: FakeEngine, tmp_path: Path) -> None:
    # Its agent is a container then, which keeps the folders; nothing is asked for that here.
    engine._reason = 'invalid mount config for type "bind": bind source path does not exist: /x'
    admission.admit(plan(), tmp_path / "not" / "there" / "yet")
    assert engine.asked == []
    assert list(tmp_path.iterdir()) == []


def test_everybody_asks_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(plan: Plan, _: object) -> list[str]:
        assert plan.topology is not None
        raise InfrastructureError("not here")

    for module in (_bench, calibrate, rerun):
        monkeypatch.setattr(module, "admit", refuse)
    monkeypatch.setattr(rerun, "load_images", lambda *_: pytest.fail("images were loaded"))
    runs = tmp_path / "runs"
    monkeypatch.setattr(rerun, "_plan", lambda *_: plan(general={"run_dir": str(runs)}))
    bundle = small_bundle(tmp_path)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    bench_file = f'{{"plan": {plan().model_dump_json()}, "images": {{}}}}'
    (earlier / "bench.json").write_text(bench_file)
    for call in (
        lambda: bench.main([*FLAGS.split(), "--run-dir", str(runs)]),
        lambda: bench.main(["--resume", str(earlier)]),
        lambda: calibrate.main(["--run-dir", str(runs)]),
        lambda: rerun.reproduce(bundle, {}, 0.05, lambda _: pytest.fail("it was begun")),
    ):
        with pytest.raises(HarnessError, match="not here"):
            call()
    assert not runs.exists()
    assert [path.name for path in earlier.iterdir()] == ["bench.json"]
