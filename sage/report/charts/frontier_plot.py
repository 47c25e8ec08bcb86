"""Frontiers on logarithmic axes: a dot for each SAE, a curve for each series of them.

Sparsity grows to the right, the hit in performance upwards; down and to the right is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sage.frontier.curves import CURVES
from sage.frontier.fit import FAR, Frontier
from sage.frontier.panels import FrontierPanel, PlacedPoint
from sage.report.charts.canvas import Canvas, legend_label, new_canvas, short
from sage.report.charts.look import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RULE,
    SKY,
    SMALL,
    VERMILLION,
    WIDE,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, INK)
_SHAPES = ("o", "s", "^", "v", "P", "D", "h")
_DASHES = (0, (3, 2))
_ACROSS, _WIDEST, _HEIGHT, _HEAD = 3, 7.2, 3.8, 0.32
_ROOM = 1.35
# More entries than this in the legend need the whole width.
_MOST_NARROW = 6


class SeriesLook(NamedTuple):
    """How a series is drawn."""

    colour: str
    shape: str


class _Looks(NamedTuple):
    """A colour for each architecture, and a shape for each model, or for each architecture where
    there is one model; `kinds` are the architecture and the model of each series."""

    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    kinds: Mapping[str, tuple[str, str]]

    def of(self, series: str) -> SeriesLook:
        """The look of a series."""
        architecture, model = self.kinds[series]
        shape = self.shapes.get(model) or self.shapes[architecture]
        return SeriesLook(self.colours[architecture], shape)

    @property
    def models(self) -> list[str]:
        """The models, where there are several."""
        return [name for name in self.shapes if name not in self.colours]


class _Span(NamedTuple):
    """The ends of both axes."""

    left: float
    right: float
    low: float
    high: float


def frontier_plot(panels: Sequence[FrontierPanel], *, y: str) -> Canvas:
    """Panels side by side, up to three in a line, on the same axes."""
    across = min(_ACROSS, len(panels))
    rows = -(-len(panels) // across)
    width = min(WIDE / across, _WIDEST)
    looks, span = _looks(panels), _span(panels)
    handles = _handles(looks, panels)
    wide = WIDE if len(handles) > _MOST_NARROW else across * width
    canvas = new_canvas(wide, _HEAD + rows * _HEIGHT)
    for place, panel in enumerate(panels):
        row, column = divmod(place, across)
        left, top = column * width + 0.62, _HEAD + row * _HEIGHT + 0.3
        axes = canvas.axes(left, top, width - 0.75, _HEIGHT - 0.85)
        _frame(axes, panel, span)
        axes.set_ylabel(y if column == 0 else "", size=SMALL, labelpad=2)
        for series, frontier in panel.frontiers.items():
            _draw_curve(axes, frontier, looks.of(series).colour, span)
        for series in panel.series:
            placed = [one for one in panel.points if one.point.series == series]
            _draw_points(axes, placed, looks.of(series), span)
    canvas.legend(handles, handletextpad=0.4, columnspacing=1.3)
    return canvas


def _looks(panels: Sequence[FrontierPanel]) -> _Looks:
    points = [placed.point for panel in panels for placed in panel.points]
    architectures = sorted({point.architecture for point in points})
    models = sorted({point.model for point in points})
    shared = any(panel.relative for panel in panels) and len(models) > 1
    return _Looks(
        _in_turn(architectures, _COLOURS),
        _in_turn(models if shared else architectures, _SHAPES),
        {point.series: (point.architecture, point.model) for point in points},
    )


def _in_turn(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return {name: values[place % len(values)] for place, name in enumerate(names)}


def _span(panels: Sequence[FrontierPanel]) -> _Span:
    """Room for all points that have a place and their intervals, and for what no SAE did."""
    drawn = [placed for panel in panels for placed in panel.points if placed.drawn]
    xs = [placed.sparsity for panel in panels for placed in panel.points]
    ys = [placed.point.hit_value for placed in drawn] or [0.1, 1.0]
    for placed in drawn:
        ys += [end for end in placed.point.ends or () if end > 0]
    lowest = max(min(ys), min((placed.point.hit_value for placed in drawn), default=0.1) / 10)
    return _Span(min(xs) / _ROOM, max(xs) * _ROOM, lowest / _ROOM, max(max(ys), 0.1) * _ROOM)


def _frame(axes: Axes, panel: FrontierPanel, span: _Span) -> None:
    axes.set_title(short(panel.name, 40), color=INK, pad=5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(span.left, span.right)
    axes.set_ylim(span.low, span.high)
    sparsities = _round_numbers(1 / span.right, 1 / span.left)
    names = [f"{1 / l0:g}" if panel.relative else f"1/{l0:g}" for l0 in sparsities]
    axes.set_xticks([1 / l0 for l0 in sparsities], names)
    hits = _round_numbers(span.low, span.high)
    axes.set_yticks(hits, [f"{hit:g}" for hit in hits])
    axes.set_xticks([], minor=True)
    axes.set_yticks([], minor=True)
    what = "D/L0, sparsity relative to the width" if panel.relative else "1/L0, sparsity"
    axes.set_xlabel(f"{what}; down and to the right is better", size=SMALL, labelpad=2)
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _round_numbers(low: float, high: float) -> list[float]:
    """1 2 5 10 ... between two numbers; powers of ten where those are many, powers of two where
    these are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    numbers = [number for number in numbers if low <= number <= high]
    if len(numbers) > 9:
        tens = [n for n in numbers if abs(math.log10(n) - round(math.log10(n))) < 1e-9]
        return tens if len(tens) > 1 else numbers
    if len(numbers) > 1:
        return numbers
    twos = range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)
    return [2.0**power for power in twos if low <= 2.0**power <= high] or numbers


def _draw_curve(axes: Axes, frontier: Frontier, colour: str, span: _Span) -> None:
    """The curve, whole where there are SAEs and dashed beside them, with its 95 % band."""
    curve = CURVES[frontier.model]
    ends = frontier.points.log_x.min(), frontier.points.log_x.max()
    log_x = np.linspace(*ends, 64)[None]
    middle = np.exp(curve.log_y(frontier.fits[frontier.model].params, log_x))[0]
    drawn = np.exp(curve.log_y(frontier.draws, log_x))
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    x = np.exp(log_x[0])
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.plot(x, middle, color=colour, linewidth=1.2, zorder=2)
    beyond = np.log([span.left, span.right])
    for start, end in ((beyond[0], ends[0]), (ends[1], beyond[1])):
        beside = np.linspace(start, end, 16)[None]
        outside = np.exp(curve.log_y(frontier.fits[frontier.model].params, beside))[0]
        axes.plot(np.exp(beside[0]), outside, color=colour, linewidth=0.8, linestyle=_DASHES)
    if frontier.half <= FAR * x[-1] and span.left < frontier.half < span.right:
        axes.axvline(frontier.half, color=colour, linewidth=0.6, linestyle=(0, (1, 2)))


def _draw_points(axes: Axes, placed: Sequence[PlacedPoint], look: SeriesLook, span: _Span) -> None:
    """Dots with their intervals, hollow where dominated; those without a place as crosses on the
    edge that they lie beyond."""
    for one in placed:
        x, y = one.sparsity, one.point.hit_value
        if not one.drawn:
            edge = span.low * 1.06 if y <= 0 else span.high / 1.06
            axes.plot([x], [edge], "x", color=look.colour, markersize=5, zorder=4)
            continue
        if (ends := one.point.ends) is not None and math.isfinite(ends[0]):
            axes.vlines(x, max(ends[0], span.low), ends[1], colors=look.colour, linewidth=1.0)
        axes.plot(
            [x],
            [y],
            look.shape,
            color=look.colour,
            markerfacecolor="white" if one.dominated else look.colour,
            markersize=5,
            markeredgewidth=1.1,
            zorder=4,
        )


def _handles(looks: _Looks, panels: Sequence[FrontierPanel]) -> list[Line2D]:
    """What the legend says."""
    placed = [one for panel in panels for one in panel.points]
    models = looks.models
    handles = [
        _handle(name, colour, "" if models else looks.shapes[name], lined=True)
        for name, colour in looks.colours.items()
    ]
    handles += [_handle(model, FAINT, looks.shapes[model]) for model in models]
    if any(one.dominated for one in placed):
        handles.append(_handle("hollow: dominated", FAINT, "o", hollow=True))
    if any(not one.drawn for one in placed):
        handles.append(_handle("no place on a log axis", FAINT, "x"))
    return handles


def _handle(
    name: str, colour: str, shape: str, *, lined: bool = False, hollow: bool = False
) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=colour,
        marker=shape,
        linestyle="-" if lined else "",
        linewidth=1.2,
        markersize=5,
        markerfacecolor="white" if hollow else colour,
        label=legend_label(short(name)),
    )
