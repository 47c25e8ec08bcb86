"""Scores against sparsity: a dot for each suite, among lines of what stands beside them.

One panel for each model, or one for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sage.report.charts.canvas import (
    Canvas,
    defined,
    draw_intervals,
    legend_label,
    limits,
    new_canvas,
    short,
)
from sage.report.charts.dot_names import DotName, name_dots
from sage.report.charts.look import (
    BLUE,
    GREEN,
    INK,
    LEVELS,
    ORANGE,
    PURPLE,
    RULE,
    SKY,
    SMALL,
    SOFT,
    VERMILLION,
    WIDE,
    YELLOW,
)
from sage.report.reported_score import ReportedScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, SKY, YELLOW, INK)
_SHAPES = ("o", "s", "^", "v", "P", "h", "d")
_NULL = "soft-frozen null"
_NULL_LOOK = (SOFT, "X")
_DASHES = (0, (3, 2))
_ACROSS, _WIDEST, _HEIGHT, _HEAD = 3, 7.2, 3.6, 0.32

GroupLook = tuple[str, str]


class SuiteDot(NamedTuple):
    """A suite at its sparsity.

    Its group gives colour and shape, unless it is the `null` of another suite; it is hollow where
    it reaches less than others of its model.
    """

    name: str
    group: str
    x: float
    score: ReportedScore
    hollow: bool = False
    null: bool = False


class Reference(NamedTuple):
    """A line that stands beside the suites: its points, or one value without a place, which holds
    at any sparsity. `label` is what the legend calls it."""

    name: str
    label: str
    points: Sequence[tuple[float | None, float]]

    @property
    def level(self) -> float | None:
        """Its one value, where that holds at any sparsity."""
        return self.points[0][1] if self.points[0][0] is None else None

    @property
    def placed(self) -> list[tuple[float, float]]:
        """Its points that have a place."""
        return [(x, y) for x, y in self.points if x is not None]


class ScatterPanel(NamedTuple):
    """One panel: suites, and the lines beside them."""

    title: str
    dots: Sequence[SuiteDot]
    references: Sequence[Reference]


def scatter_plot(panels: Sequence[ScatterPanel], *, x: str, y: str) -> Canvas:
    """Panels side by side, up to three in a line, on the same scale of x."""
    across = min(_ACROSS, len(panels))
    rows = -(-len(panels) // across)
    width = min(WIDE / across, _WIDEST)
    canvas = new_canvas(WIDE, _HEAD + rows * _HEIGHT)
    looks, span = _looks(panels), _span(panels)
    for place, panel in enumerate(panels):
        row, column = divmod(place, across)
        left, top = column * width + 0.42, _HEAD + row * _HEIGHT + 0.3
        axes = canvas.axes(left, top, width - 0.6, _HEIGHT - 0.8)
        _frame(axes, panel, span)
        axes.set_xlabel(x, size=SMALL, labelpad=2)
        axes.set_ylabel(y if column == 0 else "", size=SMALL, labelpad=2)
        for reference in panel.references:
            _draw_reference(axes, reference)
        _draw_dots(axes, panel, looks)
        name_dots(axes, _dot_names(panel), width - 0.6, _HEIGHT - 0.8)
    _draw_legend(canvas, looks, panels)
    return canvas


def _looks(panels: Sequence[ScatterPanel]) -> dict[str, GroupLook]:
    """The colour and the shape of each group."""
    groups = sorted({dot.group for panel in panels for dot in panel.dots if not dot.null})
    return {
        group: (_COLOURS[place % len(_COLOURS)], _SHAPES[place % len(_SHAPES)])
        for place, group in enumerate(groups)
    }


def _span(panels: Sequence[ScatterPanel]) -> tuple[float, float]:
    """The ends of the x axis, with room on the right for names."""
    xs: list[float] = []
    for panel in panels:
        xs += [dot.x for dot in panel.dots]
        for reference in panel.references:
            xs += [x for x, _ in reference.placed]
    return min(xs, default=1.0) / 1.35, max(xs, default=1.0) * 1.6


def _frame(axes: Axes, panel: ScatterPanel, span: tuple[float, float]) -> None:
    axes.set_title(short(panel.title, 34), color=INK, pad=5)
    axes.set_xscale("log")
    axes.set_xlim(*span)
    axes.set_ylim(*limits(_heights(panel)))
    ticks = _ticks(*span)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: 1 2 5 10 ...; powers of ten where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) <= 7:
        return ticks
    return [tick for tick in ticks if math.log10(tick) == round(math.log10(tick))]


def _heights(panel: ScatterPanel) -> list[float | None]:
    """All that must find its place along y."""
    heights: list[float | None] = []
    for dot in panel.dots:
        heights += (dot.score.low, dot.score.high, dot.score.value)
    for reference in panel.references:
        heights += [y for _, y in reference.points]
    return heights


def _draw_reference(axes: Axes, reference: Reference) -> None:
    if reference.level is not None:
        colour, dashes = LEVELS[reference.name]
        axes.axhline(reference.level, color=colour, linewidth=1.0, linestyle=dashes, zorder=1.5)
        return
    points = reference.placed
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=ORANGE,
        linewidth=0.8,
        linestyle=_DASHES,
        marker="D",
        markersize=3.6,
        markerfacecolor="white",
        zorder=2,
    )


def _draw_dots(axes: Axes, panel: ScatterPanel, looks: Mapping[str, GroupLook]) -> None:
    nulls = [dot for dot in panel.dots if dot.null]
    _draw_group(axes, nulls, _NULL_LOOK, hollow=False)
    for group, look in looks.items():
        of_group = [dot for dot in panel.dots if dot.group == group and not dot.null]
        for hollow in (False, True):
            dots = [dot for dot in of_group if dot.hollow == hollow]
            _draw_group(axes, dots, look, hollow=hollow)


def _draw_group(axes: Axes, dots: Sequence[SuiteDot], look: GroupLook, *, hollow: bool) -> None:
    colour, shape = look
    places, scores = [dot.x for dot in dots], [dot.score for dot in dots]
    points = defined(places, scores)
    draw_intervals(axes, places, scores, colour=colour, upright=True, width=1.2)
    axes.scatter(
        [point.place for point in points],
        [point.value for point in points],
        marker=shape,
        s=26,
        color="white" if hollow else colour,
        edgecolors=colour,
        linewidths=1.1,
        zorder=4,
    )


def _dot_names(panel: ScatterPanel) -> list[DotName]:
    return [
        DotName(dot.name, dot.x, dot.score.value)
        for dot in panel.dots
        if dot.score.value is not None
    ]


def _draw_legend(
    canvas: Canvas, looks: Mapping[str, GroupLook], panels: Sequence[ScatterPanel]
) -> None:
    groups = dict(looks)
    if any(dot.null for panel in panels for dot in panel.dots):
        groups[_NULL] = _NULL_LOOK
    handles = [_dot_handle(group, look) for group, look in groups.items()]
    references: dict[str, Reference] = {}
    for panel in panels:
        for reference in panel.references:
            references.setdefault(reference.label, reference)
    handles += [_line_handle(reference) for reference in references.values()]
    canvas.legend(handles, handletextpad=0.4, columnspacing=1.3)


def _dot_handle(group: str, look: GroupLook) -> Line2D:
    from matplotlib.lines import Line2D

    colour, shape = look
    label = legend_label(short(group))
    return Line2D([], [], linestyle="", marker=shape, color=colour, markersize=5, label=label)


def _line_handle(reference: Reference) -> Line2D:
    from matplotlib.lines import Line2D

    if reference.level is not None:
        colour, dashes = LEVELS[reference.name]
        return Line2D([], [], color=colour, linestyle=dashes, linewidth=1, label=reference.label)
    return Line2D(
        [],
        [],
        linestyle=_DASHES,
        linewidth=0.8,
        marker="D",
        color=ORANGE,
        markersize=4,
        markerfacecolor="white",
        label=reference.label,
    )
