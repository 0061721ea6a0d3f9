"""A variant in a run directory, which a resumed bench reads and writes again."""

from __future__ import annotations

from pathlib import Path

from harness.images.variant import DIRECTORY, WHEELS, Variant, Wheel, saved, sha256_of

LOCK = b"toy==1 \\\n    --hash=sha256:" + b"a" * 64 + b"\n"


def test_what_was_saved_is_saved_again_where_it_is(tmp_path: Path) -> None:
    source, run = tmp_path / "cache", tmp_path / "run"
    (source / WHEELS).mkdir(parents=True)
    run.mkdir()
    file = source / WHEELS / "toy-1-py3-none-any.whl"
    file.write_bytes(b"a wheel")
    wheel = Wheel(file.name, sha256_of(file), "toy @ .", "c" * 40)
    Variant(("toy @ .",), "3.13", {"dask": LOCK}, (wheel,), source).save(run)
    found = saved(run)
    assert found is not None
    assert found.directory == run / DIRECTORY
    found.save(run)
    assert saved(run) == found
    assert found.wheel_files() == {file.name: b"a wheel"}
