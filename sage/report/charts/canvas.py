"""The canvas that charts are drawn on, and the marks that several kinds of charts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from sage.report.charts.look import FAINT, TINY
from sage.report.reported_score import ReportedScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawable
    from matplotlib.lines import Line2D


@dataclass(frozen=True)
class Canvas:
    """A figure under construction; places are in inches from its upper left corner."""

    drawable: Drawable
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place."""
        corner = (left / self.width, 1 - (top + height) / self.height)
        return self.drawable.add_axes((*corner, width / self.width, height / self.height))

    def axes_in_inches(self) -> Axes:
        """Axes over all of it, in its own inches, with nothing but what is drawn on them."""
        axes = self.axes(0.0, 0.0, self.width, self.height)
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        axes.set_autoscale_on(False)
        return axes

    def legend(self, handles: Sequence[Line2D], **options: Any) -> None:
        """A legend along the upper edge, in one line."""
        self.drawable.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(0, 1),
            ncols=max(1, len(handles)),
            borderaxespad=0.2,
            **options,
        )

    def svg(self) -> bytes:
        """The figure as SVG; the same drawing gives the same bytes."""
        file = BytesIO()
        self.drawable.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return file.getvalue()


class Point(NamedTuple):
    """A score that is defined, where it stands on its line."""

    place: float
    value: float


def new_canvas(width: float, height: float) -> Canvas:
    """An empty canvas of a size in inches."""
    from matplotlib.figure import Figure as Drawable

    return Canvas(Drawable(figsize=(width, height), facecolor="white"), width, height)


def short(name: str, length: int = 26) -> str:
    """A name that fits its place in a figure; in data and tables it stands whole."""
    clean = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    return clean if len(clean) <= length else f"{clean[: length - 9]}…{clean[-8:]}"


def legend_label(name: str) -> str:
    """A name that a legend shows; matplotlib leaves out those that start with an underscore."""
    return name.lstrip("_") or "?"


def defined(places: Sequence[float | int], scores: Sequence[ReportedScore | None]) -> list[Point]:
    """Those of the scores that have a value, with their places."""
    return [
        Point(place, score.value)
        for place, score in zip(places, scores, strict=True)
        if score is not None and score.value is not None
    ]


def draw_intervals(
    axes: Axes,
    places: Sequence[float | int],
    scores: Sequence[ReportedScore],
    *,
    colour: str,
    upright: bool = False,
    width: float = 1.6,
) -> None:
    """95 % intervals, along x or upright."""
    intervals = [
        (place, score.low, score.high)
        for place, score in zip(places, scores, strict=True)
        if score.low is not None
    ]
    if intervals:
        at, low, high = zip(*intervals, strict=True)
        lines = axes.vlines if upright else axes.hlines
        lines(at, low, high, colors=colour, linewidth=width, zorder=3)


def mark_undefined(axes: Axes, place: float) -> None:
    """Say in the middle of a line that its score is undefined."""
    axes.annotate(
        "undefined",
        (0.5, place),
        xycoords=("axes fraction", "data"),
        ha="center",
        va="center",
        size=TINY,
        color=FAINT,
        style="italic",
    )


def limits(values: Sequence[float | None]) -> tuple[float, float]:
    """Limits that hold 0, 1 and all values, with a little room."""
    drawn = [value for value in values if value is not None]
    low, high = min([0.0, *drawn]), max([1.0, *drawn])
    room = 0.04 * (high - low)
    return low - room, high + room
