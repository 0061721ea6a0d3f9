"""Figures for a paper: vector and pixels, readable in black and white."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import Bbox

from harness.analysis.curves import band, baseline_of, run_curve, thin_together, typical_run
from harness.analysis.figures import Group, RunFigures
from harness.analysis.series import TOPOLOGY
from harness.analysis.timeline import boundaries, steps, task_bars
from harness.core.errors import UsageError
from harness.core.files import write_whole
from harness.report.palette import MATPLOTLIB_DASHES, MATPLOTLIB_MARKERS, Look, service_looks

_POINTS = 1500


@dataclass(frozen=True)
class Place:
    """Where a figure goes.

    Attributes:
        width, height: in inches; what the legend needs is added to the height.
        font_pt: size of its letters.
    """

    width: float
    height: float
    font_pt: float


PLACES = {
    "ieee-column": Place(3.5, 2.2, 8),
    "ieee-page": Place(7.16, 3.0, 8),
    "acm-column": Place(3.33, 2.1, 8),
    "acm-page": Place(7.0, 3.0, 8),
    "slide": Place(10.0, 5.0, 16),
    "poster": Place(16.0, 8.0, 28),
}
"""Widths are those of the author guides of IEEE (3.5 and 7.16 inches) and ACM (3.33 and 7)."""
_MOST_COLUMNS = 4
# In a column of a journal.
_SMALL_PT = 8.0
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": "medium",
    "axes.labelsize": "medium",
    "xtick.labelsize": "medium",
    "ytick.labelsize": "medium",
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",
    # Publishers refuse Type 3 fonts, which are matplotlib's default.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    # The same figure gives the same bytes.
    "svg.hashsalt": "workflow-memory-harness",
    "savefig.dpi": 200,
}
_HATCHES = {"": "", "/": "///", ".": "...", "x": "xxx", "-": "---", "\\": "\\\\\\", "|": "|||"}
FORMATS = ("svg", "pdf", "png")
"""What a report writes each figure as."""
SUFFIXES = (".pdf", ".svg", ".png", ".eps", ".pgf")
"""What :func:`save` can write."""

PAPER_NAMES = {
    "none": "No Proxy",
    "default-proxy": "Default Proxy",
    "manual-proxy": "Manual Proxy",
    "owned-proxy": "Ownership",
    "futures": "Futures",
}
"""What the modes are called in the figures of the paper (TPDS 2024), which has no futures."""


@contextmanager
def figures_aside(
    directory: Path, groups: Sequence[Group], looks: Mapping[str, Look]
) -> Iterator[None]:
    """Write all figures in all of ``FORMATS`` beside what is done in this context.

    Figures take most of a report's time, and none needs another: two copies of this process draw
    them.

    Args:
        directory: made if it is not there.
        groups: what is shown.
        looks: how each group is drawn.

    Raises:
        OSError: at the end, if one cannot be written.
    """
    directory.mkdir(exist_ok=True)
    drawings = _drawings(groups, looks)
    # What a copy is given it inherits: drawings cannot be pickled.
    copies = ProcessPoolExecutor(2, get_context("fork"), _inherited.update, (drawings,))
    with copies as pool:
        drawn = [pool.submit(_write_figure, name, directory, _source(groups)) for name in drawings]
        yield
        for each in drawn:
            each.result()


_inherited: dict[str, Callable[[Axes], None]] = {}


def _write_figure(name: str, directory: Path, source: str) -> None:
    figure = new_figure(_inherited[name])
    for suffix in FORMATS:
        save(figure, directory / f"{name}.{suffix}", source)


def _drawings(
    groups: Sequence[Group], looks: Mapping[str, Look]
) -> dict[str, Callable[[Axes], None]]:
    """Return what a report draws: name of the file -> what draws it."""
    drawings: dict[str, Callable[[Axes], None]] = {}
    if any(figures.scopes for group in groups for figures in group.runs):
        drawings["memory-net"] = lambda axes: draw_memory(axes, groups, looks, net=True)
        drawings["memory-absolute"] = lambda axes: draw_memory(axes, groups, looks, net=False)
        drawings["peaks"] = lambda axes: draw_peaks(axes, groups, looks)
    drawings["makespans"] = lambda axes: draw_makespans(axes, groups, looks)
    for group in groups:
        run = typical_run(group)
        if run.topology is not None:
            # A label may be anybody's: not every file system, or locale, has its letters.
            name = "services-" + re.sub(r"[^A-Za-z0-9_-]", "-", group.label)[:100]
            if name in drawings:
                name = f"{name}-{len(drawings)}"
            drawings[name] = lambda axes, g=group, r=run: draw_services(axes, g, r)  # type: ignore[misc]
    return drawings


def _source(groups: Sequence[Group]) -> str:
    return ", ".join(dict.fromkeys(group.session.name for group in groups))


def new_figure(draw: Callable[[Axes], None], place: Place = PLACES["ieee-page"]) -> Figure:
    """Return a figure with one drawing in it, and its legend above.

    The axes keep the place's size: what the legend needs is added, in as many columns as fit.
    """
    with mpl.rc_context(_STYLE | {"font.size": place.font_pt}):
        figure = Figure(figsize=(place.width, place.height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        box = Bbox.null()
        for columns in range(min(_MOST_COLUMNS, len(labels)), 0, -1):
            legend = figure.legend(handles, labels, loc="outside upper left", ncols=columns)
            # Its size does not depend on the rest, which takes as long as the drawing to lay out.
            box = legend.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
            if box.width <= place.width or columns == 1:
                break
            legend.remove()
        figure.set_size_inches(place.width, place.height + (box.height if labels else 0.0))
        # Once for all formats: the layout takes as long as the drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _thick(points: float) -> float:
    """Return a line's width that goes with the letters: a poster's are three times as high."""
    return points * max(1.0, float(mpl.rcParams["font.size"]) / _SMALL_PT)


def save(figure: Figure, path: Path, source: str = "", caption: str = "") -> Path:
    """Write a figure in the format its name ends with; nothing in it depends on the time.

    Args:
        figure: as :func:`new_figure` makes it.
        path: ends with one of ``SUFFIXES``.
        source: what the figure is of, so that whoever has it can cite that; goes into its metadata.
        caption: goes there, too.

    Raises:
        UsageError: for PGF, where there is no LaTeX to measure its words.
    """
    suffix = path.suffix[1:]
    if suffix == "pgf" and shutil.which("pdflatex") is None:
        raise UsageError(
            f"{path}: PGF needs LaTeX to measure its words, and pdflatex is not on PATH: install"
            " texlive-latex-recommended, or name a file that ends with .pdf"
        )
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Title": source, "Description": caption},
        "pdf": {"CreationDate": None, "Title": source or None, "Subject": caption or None},
        "png": {k: v for k, v in (("Title", source), ("Description", caption)) if v},
        "eps": {"Creator": source or "workflow-memory-harness"},
    }
    if suffix == "eps":
        _see_through_none(figure)
    with mpl.rc_context(_STYLE | {"pgf.texsystem": "pdflatex"}):
        drawn = io.BytesIO()
        # PGF has no place for it, and refuses even none.
        more: dict[str, Any] = {"metadata": metadata[suffix]} if suffix in metadata else {}
        figure.savefig(drawn, format=suffix, **more)
    data = drawn.getvalue()
    if suffix == "eps":
        # PostScript has no other place for the time than its first lines.
        data = re.sub(rb"^%%CreationDate: .*\n", b"", data, count=1, flags=re.MULTILINE)
    write_whole(path, data)
    return path


def _see_through_none(figure: Figure) -> None:
    """Give what is see-through the colour it has on white: PostScript knows no other."""
    for artist in figure.findobj(lambda each: isinstance(each, Patch | Collection)):
        assert isinstance(artist, Patch | Collection)
        colors = to_rgba_array(artist.get_facecolor())
        if len(colors):
            alpha = colors[:, 3:]
            solid = colors[:, :3] * alpha + (1 - alpha)
            visible = np.where(alpha > 0, 1.0, 0.0)
            faces: Any = np.hstack([solid, visible])
            artist.set_alpha(None)
            artist.set_facecolor(faces if isinstance(artist, Collection) else tuple(faces[0]))
    for line in figure.findobj(Line2D):
        assert isinstance(line, Line2D)
        if line.get_alpha() is not None:
            line.set_alpha(None)


def name_of(group: Group) -> str:
    """Return what a group is called in a figure."""
    return group.label.replace(group.mode, PAPER_NAMES.get(group.mode, group.mode), 1)


def draw_memory(
    axes: Axes,
    groups: Sequence[Group],
    looks: Mapping[str, Look],
    *,
    net: bool,
    scope: str | None = None,
) -> None:
    """Draw memory over time: each group's median run, and a band over all of them.

    Args:
        axes: where to.
        groups: what is shown.
        looks: how each group is drawn.
        net: whether each run's own baseline is taken off.
        scope: a service; all together by default.
    """
    for group in groups:
        found = band(group, net=net, scope=scope or TOPOLOGY)
        if found is None:
            continue
        kept = thin_together([found.median, found.low, found.high], _POINTS)
        style = looks[group.label]
        t_s = found.t_s[kept]
        axes.plot(
            t_s,
            found.median[kept],
            color=style.color,
            linestyle=MATPLOTLIB_DASHES[style.dash],
            linewidth=_thick(1.4),
            label=name_of(group),
        )
        if len(group.figures or group.runs) > 1:
            low, high = found.low[kept], found.high[kept]
            axes.fill_between(t_s, low, high, color=style.color, alpha=0.18, linewidth=0)
    axes.set_xlabel("Time since the start of the run (s)")
    whose = f" of {scope}" if scope else ""
    axes.set_ylabel(f"Memory{whose}, less its baseline" if net else f"Memory{whose} in use")
    _bytes(axes)
    axes.margins(x=0.01)


def draw_services(axes: Axes, group: Group, run: RunFigures) -> None:
    """Draw one run's memory stacked by service, with stage ends and what had to be alive."""
    memory = group.session.memory
    assert memory is not None
    curve = run_curve(memory, run)
    looks = service_looks(memory)
    names = list(looks)
    kept = thin_together([curve.total, *(curve.services[name] for name in names)], _POINTS)
    t_s = curve.t_s[kept]
    below = np.zeros(len(kept))
    for name, style in looks.items():
        above = below + np.nan_to_num(curve.services[name][kept])
        count = memory.containers[name]
        axes.fill_between(
            t_s,
            below,
            above,
            facecolor=(style.color, 0.35),
            edgecolor=style.color,
            hatch=_HATCHES.get(style.hatch, ""),
            linewidth=_thick(0.6),
            label=f"{name} \N{MULTIPLICATION SIGN} {count}" if count > 1 else name,
        )
        below = above
    ends = boundaries(task_bars(group.session, run.run))
    for end in ends:
        axes.axvline(end.t_s, color="#808080", linewidth=_thick(0.6), linestyle=":", zorder=0)
    _draw_predicted(axes, group, run)
    axes.set_xlabel("Time since the start of the run (s)")
    axes.set_ylabel("Memory in use")
    axes.set_ylim(bottom=0)
    _bytes(axes)
    axes.margins(x=0.01)


def _draw_predicted(axes: Axes, group: Group, run: RunFigures) -> None:
    ends = boundaries(task_bars(group.session, run.run))
    must = steps(group.session, run.run, ends)
    if not must:
        return
    base = baseline_of(run)
    if any(step.before_bytes for step in must):
        times = np.repeat([step.t_s for step in must], 2)
        held = [base + size for step in must for size in (step.before_bytes, step.held_bytes)]
        axes.plot(
            times, held, color="black", linestyle="--", linewidth=_thick(1), label="predicted"
        )
    ideal = [base + step.ideal_bytes for step in must]
    times = np.asarray([step.t_s for step in must])
    axes.step(
        times,
        ideal,
        where="post",
        color="black",
        linestyle=":",
        linewidth=_thick(1.2),
        label="ideal",
    )


def draw_peaks(axes: Axes, groups: Sequence[Group], looks: Mapping[str, Look]) -> None:
    """Draw the net peak of each service, the runs' extremes as whiskers."""
    scopes = list(dict.fromkeys(scope.scope for group in groups for scope in group.scopes))
    width = 0.8 / max(len(groups), 1)
    for number, group in enumerate(groups):
        style = looks[group.label]
        peaks = {scope.scope: scope.net_peak for scope in group.scopes}
        places = [i for i, name in enumerate(scopes) if name in peaks]
        found = [peaks[scopes[i]] for i in places]
        axes.bar(
            np.asarray(places) + (number - (len(groups) - 1) / 2) * width,
            [peak.median for peak in found],
            width,
            yerr=[[p.median - p.low for p in found], [p.high - p.median for p in found]],
            error_kw={"linewidth": _thick(0.8), "capsize": _thick(2)},
            facecolor=(style.color, 0.5),
            edgecolor=style.color,
            hatch=_HATCHES.get(style.hatch, ""),
            label=name_of(group),
        )
    axes.set_xticks(range(len(scopes)), scopes)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("Net peak memory")
    _bytes(axes)


def draw_makespans(axes: Axes, groups: Sequence[Group], looks: Mapping[str, Look]) -> None:
    """Draw each run's makespan, and the time of the tasks' sleep alone."""
    for number, group in enumerate(groups):
        style = looks[group.label]
        values = [f.run.makespan_s for f in group.figures if f.run.makespan_s is not None]
        axes.plot(
            [number] * len(values),
            values,
            linestyle="",
            marker=MATPLOTLIB_MARKERS[style.symbol],
            color=style.color,
            alpha=0.8,
        )
    for ideal in {g.session.workload.ideal_s for g in groups if g.session.workload}:
        axes.axhline(ideal, color="#606060", linestyle=":", linewidth=_thick(1))
        axes.annotate(
            "sleep alone", (1, ideal), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    axes.set_xticks(range(len(groups)), [name_of(group) for group in groups])
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("Makespan (s)")


def _bytes(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(EngFormatter(unit="B"))
