"""Dot plots: a line for each suite, its score with a 95 % interval among those of controls.

Panels stand side by side from 0, the floor, to 1, the ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sage.report.charts.canvas import (
    Canvas,
    defined,
    draw_intervals,
    mark_undefined,
    new_canvas,
    short,
)
from sage.report.charts.look import BLUE, FAINT, INK, MARKS, RULE, WIDE
from sage.report.reported_score import ReportedScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 24

_LINE, _LABELS, _HEAD, _FOOT = 0.2, 1.75, 0.62, 0.36
_JUDGED = (BLUE, "o")


class Dots(NamedTuple):
    """What stands on one line of one panel: the judged suite, and dictionaries by name."""

    judged: ReportedScore
    dictionaries: Mapping[str, ReportedScore]


class Line(NamedTuple):
    """One suite: its dots by panel.

    It is `hollow` where the suite reaches less than others; where it `opens` a group, a rule is
    drawn above it.
    """

    name: str
    hollow: bool
    dots: Mapping[str, Dots]
    opens: bool = False


def dots_by_panel(
    panels: Mapping[str, str],
    dictionaries: Sequence[str],
    score: Callable[[str, str | None], ReportedScore],
) -> dict[str, Dots]:
    """The dots of one line; `score` gives that of a metric and a dictionary, None for the judged.

    `panels` maps their titles to metrics.
    """
    dots: dict[str, Dots] = {}
    for panel, metric in panels.items():
        scores = {name: score(metric, name) for name in dictionaries}
        dots[panel] = Dots(score(metric, None), scores)
    return dots


def dot_plot(lines: Sequence[Line], panels: Sequence[str]) -> Canvas:
    """Suites down, panels across; the controls of a suite stand on its line."""
    names = [name for name in MARKS if _occurs(name, lines)]
    height = _LINE * len(lines)
    canvas = new_canvas(WIDE, _HEAD + height + _FOOT)
    width = (WIDE - _LABELS) / len(panels)
    for column, panel in enumerate(panels):
        axes = canvas.axes(_LABELS + column * width, _HEAD, width - 0.14, height)
        labels = [short(line.name) for line in lines] if column == 0 else []
        frame_lines(axes, panel, list(range(len(labels))), labels, extent=float(len(lines)))
        _draw_scale(axes, lines)
        dots = [line.dots[panel] for line in lines]
        for name in names:
            _draw_dictionary(axes, [dot.dictionaries.get(name) for dot in dots], *MARKS[name])
        _draw_judged(axes, [dot.judged for dot in dots], [line.hollow for line in lines])
        _draw_rules(axes, lines)
    _draw_legend(canvas, names)
    return canvas


def frame_lines(
    axes: Axes, title: str, places: Sequence[float | int], labels: Sequence[str], *, extent: float
) -> None:
    """A panel whose lines run from left to right; without labels it has no ticks."""
    axes.set_title(title, pad=5, color=INK)
    axes.set_ylim(extent - 0.5, -0.5)
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _occurs(name: str, lines: Sequence[Line]) -> bool:
    return any(name in dots.dictionaries for line in lines for dots in line.dots.values())


def _draw_scale(axes: Axes, lines: Sequence[Line]) -> None:
    """From 0 to 1, a line at each."""
    axes.set_xlim(-0.05, 1.05)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.vlines([0, 1], -0.5, len(lines) - 0.5, colors=RULE, linewidth=1, zorder=0)


def _draw_rules(axes: Axes, lines: Sequence[Line]) -> None:
    """A rule above every line that opens a group, but not above the first."""
    places = [place - 0.5 for place, line in enumerate(lines) if line.opens and place]
    axes.hlines(places, -0.05, 1.05, colors=FAINT, linewidth=0.6, zorder=0)


def _draw_dictionary(
    axes: Axes, scores: Sequence[ReportedScore | None], colour: str, shape: str
) -> None:
    points = defined(range(len(scores)), scores)
    axes.plot(
        [point.value for point in points],
        [point.place for point in points],
        linestyle="",
        marker=shape,
        markersize=8 if shape == "|" else 4.2,
        markerfacecolor="white",
        markeredgecolor=colour,
        markeredgewidth=1,
        zorder=2,
    )


def _draw_judged(axes: Axes, scores: Sequence[ReportedScore], hollow: Sequence[bool]) -> None:
    draw_intervals(axes, range(len(scores)), scores, colour=BLUE, width=2.0)
    for place, score in enumerate(scores):
        if score.value is None:
            mark_undefined(axes, float(place))
    for inside in (BLUE, "white"):
        places = [place for place, empty in enumerate(hollow) if empty == (inside == "white")]
        points = defined(places, [scores[place] for place in places])
        axes.scatter(
            [point.value for point in points],
            [point.place for point in points],
            s=24,
            color=inside,
            edgecolors=BLUE,
            linewidths=1.2,
            zorder=5,
        )


def _draw_legend(canvas: Canvas, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    looks = [("judged suite, 95 % interval", *_JUDGED), *((name, *MARKS[name]) for name in names)]
    handles = [
        Line2D(
            [],
            [],
            linestyle="-" if shape == "o" else "",
            color=colour,
            marker=shape,
            markersize=8 if shape == "|" else 4.5,
            markerfacecolor=colour if shape == "o" else "white",
            label=name,
        )
        for name, colour, shape in looks
    ]
    canvas.legend(handles, handletextpad=0.4, columnspacing=1.3)
