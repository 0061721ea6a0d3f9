"""What the samplers say of their own work."""

from __future__ import annotations

from harness.results.directory import RunDirectory
from harness.results.manifest import read_json


def missing_views(directory: RunDirectory) -> dict[str, dict[str, str]]:
    """Return, for each view, what it could not read and why.

    A view that left no file at all has a reason too.
    """
    missing: dict[str, dict[str, str]] = {}
    sampling = read_json(directory.sampling) or {}
    for view, fragments in sampling.items():
        for fragment in fragments.values():
            missing.setdefault(view, {}).update(fragment["absent"])
    lacks = (read_json(directory.manifest) or {}).get("cgroup_view_lacks", {})
    missing.setdefault("cgroup", {}).update(lacks)
    return {view: lacks for view, lacks in missing.items() if lacks}
