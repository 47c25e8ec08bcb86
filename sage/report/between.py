"""Dots between floor and ceiling: what suites score, with their 95 % intervals, beside the controls
on the same nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sage.report import drawing
from sage.report.drawing import Sheet, bars, defined, limits, sheet, short
from sage.report.score import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Each control has a colour and a shape, so that either tells it.
MARKS = {
    "supervised": (drawing.INK, "|"),
    "PCA": (drawing.ORANGE, "D"),
    "neurons": (drawing.PURPLE, "v"),
    "untrained": (drawing.VERMILLION, "x"),
    "permuted": (drawing.SKY, "+"),
    "random": (drawing.GREEN, "1"),
}
JUDGED = (drawing.BLUE, "o")
MOST = 24

_LINE, _LABELS, _HEAD, _FOOT = 0.2, 1.75, 0.62, 0.36


class Lane(NamedTuple):
    """One line: a name, whether its suite is hollow (reaches less than others), scores by panel and
    dictionary ('' is its own), and whether a rule above it opens a group.
    """

    name: str
    hollow: bool
    scores: dict[str, dict[str, Score]]
    opens: bool = False


class Raw(NamedTuple):
    """A score as measured, with the floor and the ceiling that stand beside it."""

    score: Score
    floor: float | None
    ceiling: float | None


class RawLane(NamedTuple):
    """One line of raw scores by panel; `head` opens a group."""

    name: str
    head: str
    scores: dict[str, Raw]


def between_sheet(lanes: Sequence[Lane], panels: Sequence[str]) -> Sheet:
    """Panels side by side from 0, the floor, to 1, the ceiling; a line for each suite, its controls
    on the same line."""
    names = [
        name
        for name in MARKS
        if any(name in found for lane in lanes for found in lane.scores.values())
    ]
    height = _LINE * len(lanes)
    drawn = sheet(drawing.WIDE, _HEAD + height + _FOOT)
    width = (drawing.WIDE - _LABELS) / len(panels)
    for place, panel in enumerate(panels):
        axes = drawn.axes(_LABELS + place * width, _HEAD, width - 0.14, height)
        _frame(
            axes,
            panel,
            [short(lane.name) for lane in lanes] if place == 0 else None,
            float(len(lanes)),
        )
        axes.set_xlim(-0.05, 1.05)
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.vlines([0, 1], -0.5, len(lanes) - 0.5, colors=drawing.RULE, linewidth=1, zorder=0)
        for name in names:
            _dots(axes, [lane.scores[panel].get(name) for lane in lanes], *MARKS[name])
        _own(axes, [lane.scores[panel][""] for lane in lanes], [lane.hollow for lane in lanes])
        axes.hlines(
            [line - 0.5 for line, lane in enumerate(lanes) if lane.opens and line],
            -0.05,
            1.05,
            colors=drawing.FAINT,
            linewidth=0.6,
            zorder=0,
        )
    _legend(drawn, names)
    return drawn


def raw_sheet(lanes: Sequence[RawLane], panels: Sequence[str]) -> Sheet:
    """Panels side by side; on each line the score as measured between ticks at its floor and its
    ceiling."""
    places, heads, at = [], {}, 0.0
    for lane in lanes:
        if lane.head:
            heads[at + 0.1] = lane.head
            at += 1.15
        places.append(at)
        at += 1
    height = 0.17 * at
    drawn = sheet(drawing.WIDE, 0.4 + height + _FOOT)
    width = (drawing.WIDE - _LABELS) / len(panels)
    for place, panel in enumerate(panels):
        axes = drawn.axes(_LABELS + place * width, 0.4, width - 0.22, height)
        _frame(axes, panel, None, at)
        axes.set_yticks(
            places if place == 0 else [],
            [short(lane.name) for lane in lanes] if place == 0 else [],
            size=drawing.TINY,
        )
        if place == 0:
            for y, head in heads.items():
                axes.annotate(
                    short(head, 30), (0, y), xycoords=("axes fraction", "data"), xytext=(-4, 0), textcoords="offset points", ha="right",
                    va="center", size=drawing.SMALL, weight="bold", color=drawing.INK, annotation_clip=False,
                )  # fmt: skip
        _raw_panel(axes, places, [lane.scores[panel] for lane in lanes])
    return drawn


def _raw_panel(axes: Axes, places: Sequence[float], raws: Sequence[Raw]) -> None:
    ends = [
        end
        for raw in raws
        for end in (raw.score.value, raw.floor, raw.ceiling, raw.score.low, raw.score.high)
    ]
    axes.set_xlim(*limits(ends))
    spans = [
        (y, raw.floor, raw.ceiling)
        for y, raw in zip(places, raws, strict=True)
        if raw.floor is not None and raw.ceiling is not None
    ]
    if spans:
        at, low, high = zip(*spans, strict=True)
        axes.hlines(at, low, high, colors=drawing.RULE, linewidth=1, zorder=1)
        axes.scatter(low, at, marker="|", s=34, color=drawing.SOFT, linewidths=1, zorder=2)
        axes.scatter(high, at, marker="|", s=34, color=drawing.INK, linewidths=1.6, zorder=2)
    scores = [raw.score for raw in raws]
    found = defined(places, scores)
    axes.scatter(
        [x for _, x in found],
        [y for y, _ in found],
        s=15,
        color=drawing.BLUE,
        zorder=4,
        linewidths=0,
    )
    bars(axes, places, scores, colour=drawing.BLUE)
    for y, raw in zip(places, raws, strict=True):
        if raw.score.value is None:
            _undefined(axes, float(y))


def _frame(axes: Axes, title: str, names: Sequence[str] | None, lines: float) -> None:
    axes.set_title(title, pad=5, color=drawing.INK)
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_yticks(range(len(names)) if names else [], names or [])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _dots(axes: Axes, scores: Sequence[Score | None], colour: str, shape: str) -> None:
    found = defined(range(len(scores)), scores)
    axes.plot(
        [x for _, x in found], [y for y, _ in found], linestyle="", marker=shape, markersize=8 if shape == "|" else 4.2,
        markerfacecolor="white", markeredgecolor=colour, markeredgewidth=1, zorder=2,
    )  # fmt: skip


def _own(axes: Axes, scores: Sequence[Score], reaching_less: Sequence[bool]) -> None:
    bars(axes, range(len(scores)), scores, colour=drawing.BLUE, width=2.0)
    for line, score in enumerate(scores):
        if score.value is None:
            _undefined(axes, float(line))
    for hollow in (False, True):
        lines = [line for line, less in enumerate(reaching_less) if less == hollow]
        found = defined(lines, [scores[line] for line in lines])
        inside = "white" if hollow else drawing.BLUE
        axes.scatter(
            [x for _, x in found],
            [y for y, _ in found],
            s=24,
            color=inside,
            edgecolors=drawing.BLUE,
            linewidths=1.2,
            zorder=5,
        )


def _undefined(axes: Axes, y: float) -> None:
    axes.annotate(
        "undefined",
        (0.5, y),
        xycoords=("axes fraction", "data"),
        ha="center",
        va="center",
        size=drawing.TINY,
        color=drawing.FAINT,
        style="italic",
    )


def _legend(drawn: Sheet, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    shapes = [("judged suite, 95 % interval", *JUDGED), *((name, *MARKS[name]) for name in names)]
    handles = [
        Line2D([], [], linestyle="-" if shape == "o" else "", color=colour, marker=shape, markersize=8 if shape == "|" else 4.5,
               markerfacecolor=colour if shape == "o" else "white", label=name)
        for name, colour, shape in shapes
    ]  # fmt: skip
    drawn.figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        handletextpad=0.4,
        columnspacing=1.3,
        borderaxespad=0.2,
    )
