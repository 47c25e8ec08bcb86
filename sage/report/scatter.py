"""Scores against sparsity: a dot for each suite, with PCA at its own L0 beside, one panel for each
model or one for all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sage.report import drawing
from sage.report.drawing import Sheet, bars, defined, limits, sheet, short
from sage.report.score import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    drawing.BLUE,
    drawing.VERMILLION,
    drawing.GREEN,
    drawing.PURPLE,
    drawing.SKY,
    drawing.YELLOW,
    drawing.INK,
)
SHAPES = ("o", "s", "^", "v", "P", "X", "h")
PCA = "PCA"


class Dot(NamedTuple):
    """A suite at its sparsity: `group` gives colour and shape, `hollow` says that it reaches less
    than others of its model."""

    name: str
    group: str
    x: float
    score: Score
    hollow: bool = False


class Field(NamedTuple):
    """One panel: suites, and a control as (x, score)."""

    title: str
    dots: list[Dot]
    control: list[tuple[float, Score]]


def scatter_sheet(fields: Sequence[Field], *, x: str, y: str) -> Sheet:
    """Panels side by side, up to three in a line, on the same scales."""
    across = min(3, len(fields))
    lines = -(-len(fields) // across)
    width, height, head = min(drawing.WIDE / across, 7.2), 3.6, 0.32
    drawn = sheet(drawing.WIDE, head + lines * height)
    groups = list(dict.fromkeys(dot.group for field in fields for dot in field.dots))
    looks = {
        group: (COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)])
        for place, group in enumerate(sorted(groups))
    }
    every = [dot.x for field in fields for dot in field.dots] + [
        at for field in fields for at, _ in field.control
    ]
    for place, field in enumerate(fields):
        left, top = (place % across) * width, head + (place // across) * height
        axes = drawn.axes(left + 0.42, top + 0.3, width - 0.6, height - 0.8)
        _frame(axes, field, every, x=x, y=y if place % across == 0 else "")
        _control(axes, field)
        _dots(axes, field, looks)
        _names(axes, field, width - 0.6, height - 0.8)
    _legend(drawn, looks, control=any(field.control for field in fields))
    return drawn


def _frame(axes: Axes, field: Field, every: Sequence[float], *, x: str, y: str) -> None:
    axes.set_title(short(field.title, 34), color=drawing.INK, pad=5)
    axes.set_xscale("log")
    low, high = min(every, default=1.0), max(every, default=1.0)
    axes.set_xlim(low / 1.35, high * 1.6)
    ends = [end for dot in field.dots for end in (dot.score.low, dot.score.high, dot.score.value)]
    axes.set_ylim(*limits(ends))
    ticks = _ticks(low / 1.35, high * 1.6)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(x, size=drawing.SMALL, labelpad=2)
    axes.set_ylabel(y, size=drawing.SMALL, labelpad=2)
    axes.grid(color=drawing.RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: 1 2 5 10 ..., or powers of ten where those are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [
        step * 10.0**power
        for power in powers
        for step in (1, 2, 5)
        if low <= step * 10.0**power <= high
    ]
    return (
        fine
        if len(fine) <= 7
        else [tick for tick in fine if math.log10(tick) == round(math.log10(tick))]
    )


def _control(axes: Axes, field: Field) -> None:
    found = sorted((at, score.value) for at, score in field.control if score.value is not None)
    axes.plot(
        [at for at, _ in found], [value for _, value in found], color=drawing.ORANGE, linewidth=0.8, linestyle=(0, (3, 2)), marker="D",
        markersize=3.6, markerfacecolor="white", zorder=2,
    )  # fmt: skip


def _dots(axes: Axes, field: Field, looks: dict[str, tuple[str, str]]) -> None:
    for group, (colour, shape) in looks.items():
        for hollow in (False, True):
            own = [dot for dot in field.dots if dot.group == group and dot.hollow == hollow]
            places, scores = [dot.x for dot in own], [dot.score for dot in own]
            found = defined(places, scores)
            inside = "white" if hollow else colour
            bars(axes, places, scores, colour=colour, upright=True, width=1.2)
            axes.scatter(
                [x for x, _ in found],
                [y for _, y in found],
                marker=shape,
                s=26,
                color=inside,
                edgecolors=colour,
                linewidths=1.1,
                zorder=4,
            )


def _names(axes: Axes, field: Field, width: float, height: float) -> None:
    """Names beside their dots, where there is room; the data has all."""
    dots = [(dot, dot.score.value) for dot in field.dots if dot.score.value is not None]
    left, right, low, high = map(float, (*axes.get_xlim(), *axes.get_ylim()))
    places = [
        (
            width * math.log(dot.x / left) / math.log(right / left),
            height * (value - low) / (high - low),
        )
        for dot, value in dots
    ]
    taken = [_Box(x - 0.05, x + 0.05, y - 0.05, y + 0.05) for x, y in places]
    room = _Box(0, width + 0.12, 0, height)
    for (dot, value), (x, y) in zip(dots, places, strict=True):
        name = short(dot.name, 22)
        found = next(
            (
                box
                for box in _around(x, y, 0.047 * len(name))
                if room.holds(box) and not any(map(box.meets, taken))
            ),
            None,
        )
        if found is None:
            continue
        taken.append(found)
        offset = ((found.left - x) * 72, ((found.low + found.high) / 2 - y) * 72)
        axes.annotate(
            name,
            (dot.x, value),
            xytext=offset,
            textcoords="offset points",
            size=drawing.TINY - 0.5,
            color=drawing.SOFT,
            va="center",
        )


class _Box(NamedTuple):
    """A rectangle in inches."""

    left: float
    right: float
    low: float
    high: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.low < other.high
            and other.low < self.high
        )

    def holds(self, other: _Box) -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.low <= other.low
            and other.high <= self.high
        )


def _around(x: float, y: float, length: float) -> Iterator[_Box]:
    """Where a name may stand: right, left, above, below, and the corners."""
    half, gap = 0.045, 0.09
    for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        left = x - length / 2 if across == 0 else x + gap if across > 0 else x - gap - length
        middle = y + up * (0.13 if across == 0 else 0.1)
        yield _Box(left, left + length, middle - half, middle + half)


def _legend(drawn: Sheet, looks: dict[str, tuple[str, str]], *, control: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=shape,
            color=colour,
            markersize=5,
            label=short(group).lstrip("_") or "?",
        )
        for group, (colour, shape) in looks.items()
    ]
    if control:
        handles.append(
            Line2D(
                [],
                [],
                linestyle=(0, (3, 2)),
                linewidth=0.8,
                marker="D",
                color=drawing.ORANGE,
                markersize=4,
                markerfacecolor="white",
                label=PCA,
            )
        )
    drawn.figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=max(1, len(handles)),
        handletextpad=0.4,
        columnspacing=1.3,
        borderaxespad=0.2,
    )
