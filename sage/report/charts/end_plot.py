"""Scores as measured, each on a line between the ends that it will be put between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sage.report.charts.canvas import (
    Canvas,
    defined,
    draw_intervals,
    limits,
    mark_undefined,
    new_canvas,
    short,
)
from sage.report.charts.dot_plot import frame_lines
from sage.report.charts.look import BLUE, INK, RULE, SMALL, SOFT, TINY, WIDE
from sage.report.reported_score import ReportedScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS, _HEAD, _FOOT = 1.75, 0.4, 0.36
_LINE, _GROUP_HEAD = 0.17, 1.15


class RawScore(NamedTuple):
    """A score as measured, with the floor and the ceiling that stand beside it."""

    score: ReportedScore
    floor: float | None
    ceiling: float | None


class RawLine(NamedTuple):
    """One line of raw scores by panel; where there is a `head`, it opens a group of that name."""

    name: str
    head: str
    scores: Mapping[str, RawScore]


def end_plot(lines: Sequence[RawLine], panels: Sequence[str]) -> Canvas:
    """Panels side by side; ticks on each line stand at its floor and at its ceiling."""
    places, heads, extent = _lay_out(lines)
    height = _LINE * extent
    canvas = new_canvas(WIDE, _HEAD + height + _FOOT)
    width = (WIDE - _LABELS) / len(panels)
    for column, panel in enumerate(panels):
        axes = canvas.axes(_LABELS + column * width, _HEAD, width - 0.22, height)
        frame_lines(axes, panel, [], [], extent=extent)
        if column == 0:
            axes.set_yticks(places, [short(line.name) for line in lines], size=TINY)
            _name_groups(axes, heads)
        _draw_panel(axes, places, [line.scores[panel] for line in lines])
    return canvas


def _lay_out(lines: Sequence[RawLine]) -> tuple[list[float], dict[float, str], float]:
    """Where each line stands, where each head stands, and how far all of it goes, in lines."""
    places: list[float] = []
    heads: dict[float, str] = {}
    place = 0.0
    for line in lines:
        if line.head:
            heads[place + 0.1] = line.head
            place += _GROUP_HEAD
        places.append(place)
        place += 1
    return places, heads, place


def _name_groups(axes: Axes, heads: Mapping[float, str]) -> None:
    for place, head in heads.items():
        axes.annotate(
            short(head, 30),
            (0, place),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            size=SMALL,
            weight="bold",
            color=INK,
            annotation_clip=False,
        )


def _draw_panel(axes: Axes, places: Sequence[float | int], raw_scores: Sequence[RawScore]) -> None:
    scores = [raw.score for raw in raw_scores]
    axes.set_xlim(*limits([number for raw in raw_scores for number in _numbers(raw)]))
    _draw_ends(axes, places, raw_scores)
    points = defined(places, scores)
    axes.scatter(
        [point.value for point in points],
        [point.place for point in points],
        s=15,
        color=BLUE,
        zorder=4,
        linewidths=0,
    )
    draw_intervals(axes, places, scores, colour=BLUE)
    for place, score in zip(places, scores, strict=True):
        if score.value is None:
            mark_undefined(axes, float(place))


def _numbers(raw: RawScore) -> tuple[float | None, ...]:
    return (raw.score.value, raw.floor, raw.ceiling, raw.score.low, raw.score.high)


def _draw_ends(axes: Axes, places: Sequence[float | int], raw_scores: Sequence[RawScore]) -> None:
    """A thin line from floor to ceiling with a tick at each."""
    ends = [
        (place, raw.floor, raw.ceiling)
        for place, raw in zip(places, raw_scores, strict=True)
        if raw.floor is not None and raw.ceiling is not None
    ]
    if ends:
        at, floors, ceilings = zip(*ends, strict=True)
        axes.hlines(at, floors, ceilings, colors=RULE, linewidth=1, zorder=1)
        axes.scatter(floors, at, marker="|", s=34, color=SOFT, linewidths=1, zorder=2)
        axes.scatter(ceilings, at, marker="|", s=34, color=INK, linewidths=1.6, zorder=2)
