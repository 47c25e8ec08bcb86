"""Curves over k: how a score grows with the number of latents that may be moved at each site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from sage.report.charts.canvas import Canvas, defined, legend_label, limits, new_canvas, short
from sage.report.charts.look import BLUE, FAINT, GREEN, INK, MARKS, RULE, SMALL, TINY, WIDE
from sage.report.reported_score import ReportedScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

DRAWN_CONTROLS = ("text lookup", "task lookup", "PCA", "untrained", "random")

Role = Literal["judged", "supervised", "control", "other"]

# Drawn in this order, so that the judged lie on top.
_LAYERS: tuple[Role, ...] = ("other", "control", "supervised", "judged")
_JUDGED = ((BLUE, "o"), (GREEN, "s"))
_ZERO = 0.5  # k = 0 has no logarithm: it stands one doubling to the left of 1
_ACROSS = 4


class BudgetCurve(NamedTuple):
    """One dictionary's score by k."""

    name: str
    role: Role
    points: Sequence[tuple[int, ReportedScore]]


class ContrastCurves(NamedTuple):
    """The curves of one contrast."""

    contrast: str
    curves: Sequence[BudgetCurve]

    @property
    def scores(self) -> list[ReportedScore]:
        """The scores of all its curves."""
        return [score for curve in self.curves for _, score in curve.points]

    @property
    def ks(self) -> list[int]:
        """Every k of its curves."""
        return sorted({k for curve in self.curves for k, _ in curve.points})


class _CurveLook(NamedTuple):
    colour: str
    marker: str
    width: float
    fill: str


def curve_plot(contrasts: Sequence[ContrastCurves], *, y: str) -> Canvas:
    """A panel for each contrast, four in a line."""
    across = min(_ACROSS, max(2, len(contrasts)))
    rows = -(-len(contrasts) // across)
    width, height, head = WIDE / across, 2.25, 0.3
    canvas = new_canvas(WIDE, head + rows * height)
    for place, contrast in enumerate(contrasts):
        row, column = divmod(place, across)
        left, top = column * width, head + row * height
        axes = canvas.axes(left + 0.38, top + 0.3, width - 0.52, height - 0.78)
        _draw_panel(axes, contrast)
        axes.set_ylabel(y if column == 0 else "", size=TINY, labelpad=2)
    _draw_legend(canvas, contrasts)
    return canvas


def _draw_panel(axes: Axes, contrast: ContrastCurves) -> None:
    _frame(axes, contrast)
    for curve in sorted(contrast.curves, key=lambda curve: _LAYERS.index(curve.role)):
        _draw_curve(axes, curve, _look_of(curve, contrast))


def _frame(axes: Axes, contrast: ContrastCurves) -> None:
    ks = contrast.ks
    places = [k or _ZERO for k in ks]
    axes.set_title(short(contrast.contrast, 20), color=INK, pad=5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(k) for k in ks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(places) / 1.25, max(ks[-1], 1) * 1.25)
    axes.set_xlabel("k, latents moved at each site", size=TINY, labelpad=2)
    axes.set_ylim(*limits([score.value for score in contrast.scores]))
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _draw_curve(axes: Axes, curve: BudgetCurve, look: _CurveLook) -> None:
    places = [k or _ZERO for k, _ in curve.points]
    scores = [score for _, score in curve.points]
    points = defined(places, scores)
    axes.plot(
        [point.place for point in points],
        [point.value for point in points],
        color=look.colour,
        linewidth=look.width,
        marker=look.marker,
        markersize=3.4,
        markerfacecolor=look.fill,
        markeredgewidth=0.9,
    )
    band = [
        (place, score.low, score.high)
        for place, score in zip(places, scores, strict=True)
        if score.low is not None and score.high is not None
    ]
    if band and curve.role in ("judged", "supervised"):
        at, low, high = zip(*band, strict=True)
        axes.fill_between(at, low, high, color=look.colour, alpha=0.14, linewidth=0)


def _look_of(curve: BudgetCurve, contrast: ContrastCurves) -> _CurveLook:
    if curve.role == "judged":
        judged = [other.name for other in contrast.curves if other.role == "judged"]
        colour, marker = _JUDGED[judged.index(curve.name)]
        return _CurveLook(colour, marker, 1.8, fill=colour)
    if curve.role == "other":
        return _CurveLook(FAINT, "", 0.7, fill="white")
    colour, marker = MARKS[curve.name]
    return _CurveLook(colour, marker, 1.2 if curve.role == "supervised" else 0.9, fill="white")


def _draw_legend(canvas: Canvas, contrasts: Sequence[ContrastCurves]) -> None:
    handles: dict[str, Line2D] = {}
    for contrast in contrasts:
        for curve in contrast.curves:
            name = "other suites" if curve.role == "other" else short(curve.name)
            handles.setdefault(name, _legend_handle(name, _look_of(curve, contrast)))
    canvas.legend(list(handles.values()), handletextpad=0.5, columnspacing=1.4, fontsize=SMALL)


def _legend_handle(name: str, look: _CurveLook) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=look.colour,
        marker=look.marker,
        linewidth=look.width,
        markersize=4,
        markerfacecolor=look.fill,
        label=legend_label(name),
    )
