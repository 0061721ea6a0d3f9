"""Images as directories: what unpacking takes over, what it refuses, and what runtimes are told."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.images.oci import Layer, OciImage
from harness.processes.rooms import Rooms, unpack


def layer(
    path: Path, *members: tuple[str, str | None], links: dict[str, str] | None = None
) -> Layer:
    with tarfile.open(path, "w") as tar:
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o555
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content.encode()))
    return Layer.of(path, "a step")


def image(*layers: Layer, env: tuple[str, ...] = ()) -> OciImage:
    return OciImage("name:tag", json.dumps({"config": {"Env": list(env)}}).encode(), layers)


def test_later_layers_lie_over_earlier_ones(tmp_path: Path) -> None:
    first = layer(
        tmp_path / "1.tar",
        ("usr", None),
        ("usr/bin", None),
        ("usr/bin/a", "old"),
        ("usr/bin/gone", "x"),
        ("opt", None),
        ("opt/b", "x"),
        ("opt/c", "x"),
        links={"bin": "usr/bin"},
    )
    second = layer(
        tmp_path / "2.tar",
        ("usr/bin/a", "new"),
        ("usr/bin/.wh.gone", ""),
        ("opt/.wh..wh..opq", ""),
        ("opt/d", "y"),
    )
    tree = tmp_path / "tree"
    unpack(image(first, second), tree)
    assert (tree / "bin" / "a").read_text() == "new"
    assert not (tree / "usr" / "bin" / "gone").exists()
    assert [path.name for path in (tree / "opt").iterdir()] == ["d"]
    # What a runtime mounts over is there.
    assert all((tree / name).is_dir() for name in ("dev", "proc", "tmp", "harness/run"))
    assert (tree / "etc" / "hosts").is_file()


def test_a_layer_with_another_content_is_refused(tmp_path: Path) -> None:
    made = layer(tmp_path / "1.tar", ("a", "x"))
    with made.path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(InfrastructureError, match="is not the layer sha256:"):
        unpack(image(made), tmp_path / "tree")


@pytest.mark.parametrize(
    "name", ["../out", "link/out", "..", "/out", "link/.wh.out", "link/sub/.wh..wh..opq", ".wh..."]
)
def test_nothing_is_changed_outside_of_the_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").write_text("mine")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("mine")
    made = layer(tmp_path / "1.tar", (name, "x"), links={"link": str(tmp_path)})
    with pytest.raises(InfrastructureError, match="layer sha256:"):
        unpack(image(made), tmp_path / "tree")
    assert (tmp_path / "out").read_text() == "mine"
    assert (tmp_path / "sub" / "file").read_text() == "mine"


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match=r"--runtime bwrap: .* install bubblewrap"):
        Rooms.of("bwrap", {}, tmp_path)
    with pytest.raises(InfrastructureError, match="install apptainer"):
        Rooms.of("apptainer", {}, tmp_path)


def rooms(runtime: str) -> Rooms:
    return Rooms(runtime, {"dask": Path("/trees/dask")}, {"dask": {"PATH": "/bin", "A": "1"}})


def test_bubblewrap_shows_the_image_and_nothing_else_of_the_environment() -> None:
    words = rooms("bwrap").command("dask", {"/x": "/harness/run"}, {"A": "2"}, ["python", "-V"])
    text = " ".join(words)
    assert text.startswith("bwrap ")
    assert "--clearenv --ro-bind /trees/dask / " in text
    assert "--bind /x /harness/run" in text
    assert "--setenv PATH /bin --setenv A 2" in text
    assert "--die-with-parent" in words
    assert words[-3:] == ["--", "python", "-V"]


def test_apptainer_is_told_the_same() -> None:
    words = rooms("apptainer").command("dask", {"/x": "/harness/run"}, {"A": "2"}, ["python"])
    text = " ".join(words)
    assert text.startswith("apptainer ")
    assert "--containall" in words
    assert "--bind /x:/harness/run" in text
    assert words[-4:] == ["--env", '"PATH=/bin","A=2"', "/trees/dask", "python"]


def test_apptainer_gets_values_as_they_are() -> None:
    values = {"A": 'x,B="y"', "C": "$HOME"}
    words = rooms("apptainer").command("dask", {}, values, ["python"])
    row = words[words.index("--env") + 1]
    assert next(csv.reader([row])) == ["PATH=/bin", 'A=x,B="y"', "C=$HOME"]
    # Else a shell would replace $HOME.
    assert "--no-eval" in words
