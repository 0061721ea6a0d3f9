"""A small workflow in WfFormat, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.plan import Plan
from harness.workloads.wfformat import WfFormat

DIAMOND = Path(__file__).parent / "data" / "workflows" / "diamond.json"


def diamond_1_5() -> dict[str, Any]:
    """Return five tasks: a split, two that are equal, a join that reads a late file, a report."""
    found: dict[str, Any] = json.loads(DIAMOND.read_text(encoding="utf-8"))
    return found


def as_1_3(document: dict[str, Any], version: str) -> dict[str, Any]:
    """Return the same workflow as WfFormat 1.3 and 1.4 tell it."""
    said = document["workflow"]["specification"]
    took = {t["id"]: t["runtimeInSeconds"] for t in document["workflow"]["execution"]["tasks"]}
    sizes = {file["id"]: file["sizeInBytes"] for file in said["files"]}
    runtime, size = ("runtime", "size") if version == "1.3" else ("runtimeInSeconds", "sizeInBytes")

    def files(task: dict[str, Any]) -> list[dict[str, Any]]:
        pairs = (("input", "inputFiles"), ("output", "outputFiles"))
        return [
            {"link": link, "name": name, size: sizes[name]}
            for link, key in pairs
            for name in task[key]
        ]

    tasks = [
        {
            "name": task["name"],
            "type": "compute",
            "parents": task["parents"],
            "children": task["children"],
            "files": files(task),
            runtime: took[task["id"]],
        }
        for task in said["tasks"]
    ]
    return {"name": "diamond", "schemaVersion": version, "workflow": {"tasks": tasks}}


def wfformat_plan(**workload: Any) -> Plan:
    """Return a plan of threads and files with the small workflow in all modes."""
    options = WfFormat.from_flags({"workflow": str(DIAMOND)}).model_dump()
    modes = ("none", "default-proxy", "manual-proxy", "owned-proxy")
    return Plan.model_validate(
        {
            "executor_name": "thread",
            "executor": {"max_workers": 2},
            "connector_name": "local",
            "connector": {},
            "workload_name": "wfformat",
            "workload": {**options, "modes": modes, **workload},
            "general": {"baseline_window": 0},
        }
    )
