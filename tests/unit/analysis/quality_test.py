from __future__ import annotations

import json
from pathlib import Path

from harness.analysis.quality import missing_views
from harness.results.directory import RunDirectory


def test_what_a_view_lacks_comes_with_its_reason(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert missing_views(directory) == {}
    directory.manifest.write_text(
        json.dumps({"cgroup_view_lacks": {"cgroup parents": "creating cgroups needs root"}})
    )
    directory.sampling.write_text(
        json.dumps(
            {
                "docker": {"engine": {"absent": {"redis-1": "the stats stream broke off"}}},
                "inside": {"worker-1": {"absent": {}}},
            }
        )
    )
    assert missing_views(directory) == {
        "docker": {"redis-1": "the stats stream broke off"},
        "cgroup": {"cgroup parents": "creating cgroups needs root"},
    }
