"""Figures as a journal takes them: by their ink."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.image import imread

from harness.analysis.figures import Group, group_runs
from harness.analysis.readers import read_session
from harness.core.errors import UsageError
from harness.report import plots
from harness.report.palette import mode_looks
from tests.rundirs import write_run_directory

MB = 1_000_000
MODES = ["none", "default-proxy", "manual-proxy", "owned-proxy"]


@pytest.fixture(scope="module", params=[1, 2, 4, 8, 12])
def groups(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Group]:
    """Give as many modes as there are lines, with names as long as they get."""
    names = [*MODES, *(f"another-mode-of-ours-{n}" for n in range(8))][: request.param]
    peaks = {name: [20 * MB + n * MB, 30 * MB] for n, name in enumerate(names)}
    place = tmp_path_factory.mktemp("runs") / "run"
    directory = write_run_directory(place, peaks, events=False)
    return group_runs([read_session(directory.path)])


@pytest.mark.parametrize("name", plots.PLACES)
def test_nothing_is_cut_and_the_drawing_keeps_its_size(groups: list[Group], name: str) -> None:
    place = plots.PLACES[name]
    looks = mode_looks([(group.label, group.mode) for group in groups])

    drawn = plots.new_figure(lambda axes: plots.draw_peaks(axes, groups, looks), place)
    width, height = drawn.get_size_inches()
    assert width == place.width
    assert place.height < height
    (axes,) = drawn.axes
    box = axes.get_window_extent().transformed(drawn.dpi_scale_trans.inverted())
    assert box.height > 0.6 * place.height
    assert box.width > 0.7 * place.width
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=100)
    file.seek(0)
    ink = imread(file)[:, :, :3].min(axis=2) < 0.95
    edges = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    assert not edges.any()
    sizes = {label.get_fontsize() for label in axes.get_xticklabels()}
    assert sizes == {axes.yaxis.label.get_fontsize()} == {place.font_pt}
    # The legend has a line of its own for each group, above the axes.
    (legend,) = drawn.legends
    assert len(legend.get_texts()) == len(groups)
    around = legend.get_window_extent().transformed(drawn.dpi_scale_trans.inverted())
    # Around its words a legend has a margin of 0.4 of their size.
    assert around.y0 >= box.y1 - 0.4 * place.font_pt / 72
    assert around.x0 >= 0
    assert around.x1 <= width


def test_eps_has_fonts_solid_colours_and_no_time(groups: list[Group], tmp_path: Path) -> None:
    looks = mode_looks([(group.label, group.mode) for group in groups])
    drawn = [
        plots.new_figure(lambda axes: plots.draw_memory(axes, groups, looks, net=True))
        for _ in range(2)
    ]
    first, second = (
        plots.save(figure, tmp_path / f"{n}.eps", "run 1").read_bytes()
        for n, figure in enumerate(drawn)
    )
    assert first.replace(b"0.eps", b"") == second.replace(b"1.eps", b"")
    assert first.startswith(b"%!PS-Adobe-3.0 EPSF-3.0")
    assert b"/FontType 42" in first
    assert b"%%Creator: run 1" in first
    faces = [to_rgba_array(band.get_facecolor())[0] for band in drawn[0].axes[0].collections]
    assert all(face[3] == 1 and face[:3].max() > 0.8 for face in faces)


def test_a_figure_says_what_it_is_of(groups: list[Group], tmp_path: Path) -> None:
    looks = mode_looks([(group.label, group.mode) for group in groups])
    drawn = plots.new_figure(lambda axes: plots.draw_makespans(axes, groups, looks))
    for suffix in ("svg", "png", "pdf"):
        written = plots.save(drawn, tmp_path / f"x.{suffix}", "bundle sha256:abc").read_bytes()
        assert b"bundle sha256:abc" in written


def test_pgf_without_latex_is_refused_in_one_line(
    groups: list[Group], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    drawn = plots.new_figure(lambda axes: None)
    with pytest.raises(UsageError, match="PGF needs LaTeX"):
        plots.save(drawn, tmp_path / "x.pgf")


def test_pgf_is_asked_for_without_metadata_which_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its words are measured by LaTeX, which few machines have.
    asked: dict[str, Any] = {}

    def savefig(_figure: Figure, file: io.BytesIO, **more: Any) -> None:
        asked[more.pop("format")] = more
        file.write(b"a figure")

    monkeypatch.setattr(Figure, "savefig", savefig)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/pdflatex")
    drawn = plots.new_figure(lambda axes: None)
    for suffix in ("pgf", "pdf"):
        plots.save(drawn, tmp_path / f"x.{suffix}", "run 1", "A caption")
    assert asked["pgf"] == {}
    assert asked["pdf"]["metadata"]["Subject"] == "A caption"
    assert (tmp_path / "x.pgf").read_bytes() == b"a figure"


def test_letters_are_fonts_that_publishers_take(groups: list[Group], tmp_path: Path) -> None:
    looks = mode_looks([(group.label, group.mode) for group in groups])
    drawn = plots.new_figure(lambda axes: plots.draw_makespans(axes, groups, looks))
    pdf = plots.save(drawn, tmp_path / "x.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"/CIDFontType2" in pdf
