"""Scores on lines, each between two ticks: its best control and the supervised features."""

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


class EndScore(NamedTuple):
    """A score with what its best control and the supervised features score."""

    score: ReportedScore
    control: float | None
    supervised: float | None


class EndLine(NamedTuple):
    """One line of scores by panel; where there is a `head`, it opens a group of that name."""

    name: str
    head: str
    scores: Mapping[str, EndScore]


def end_plot(lines: Sequence[EndLine], panels: Sequence[str]) -> Canvas:
    """Panels side by side; ticks on each line stand at the best control and at the supervised
    features."""
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


def _lay_out(lines: Sequence[EndLine]) -> tuple[list[float], dict[float, str], float]:
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


def _draw_panel(
    axes: Axes, places: Sequence[float | int], scores_with_ends: Sequence[EndScore]
) -> None:
    scores = [entry.score for entry in scores_with_ends]
    axes.set_xlim(*limits([number for entry in scores_with_ends for number in _numbers(entry)]))
    _draw_ends(axes, places, scores_with_ends)
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


def _numbers(entry: EndScore) -> tuple[float | None, ...]:
    score = entry.score
    return (score.value, entry.control, entry.supervised, score.low, score.high)


def _draw_ends(
    axes: Axes, places: Sequence[float | int], scores_with_ends: Sequence[EndScore]
) -> None:
    """A thin line between the two ends, with a tick at each."""
    placed = list(zip(places, scores_with_ends, strict=True))
    for colour, width, end in ((SOFT, 1.0, "control"), (INK, 1.6, "supervised")):
        ticks = [(getattr(entry, end), place) for place, entry in placed]
        known = [(value, place) for value, place in ticks if value is not None]
        axes.scatter(
            [value for value, _ in known],
            [place for _, place in known],
            marker="|",
            s=34,
            color=colour,
            linewidths=width,
            zorder=2,
        )
    for place, entry in placed:
        if entry.control is not None and entry.supervised is not None:
            axes.hlines(place, entry.control, entry.supervised, colors=RULE, linewidth=1, zorder=1)
