"""Heat maps of matrices: panels on one canvas, with one colour bar for all.

Maps of one kind share their limits on every page: F1 from 0 to 1, cosines from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sage.report.charts.canvas import Canvas, new_canvas
from sage.report.charts.look import AMOUNTS, COSINES, FAINT, INK, SOFT, TINY, WIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR = 0.62  # room for a colour bar

# Room for letters that can be read at 100 %.
LEAST_SQUARE = 0.125

_HEAD = 0.36


class Scale(NamedTuple):
    """A colour map and the numbers at its ends."""

    colours: str
    low: float
    high: float


F1_SCALE = Scale(AMOUNTS, 0.0, 1.0)
COSINE_SCALE = Scale(COSINES, -1.0, 1.0)


class Rectangle(NamedTuple):
    """A place on a canvas, in inches from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class MapPanel:
    """One matrix under a title, with what its rows and columns are called."""

    title: str
    values: Float[np.ndarray, "row column"]
    rows: list[str]
    columns: list[str]


class _Extent(NamedTuple):
    """How much room a panel takes, in inches, and its margins for names."""

    width: float
    height: float
    left: float
    square: float


def heat_maps(panels: Sequence[MapPanel], scale: Scale) -> Canvas:
    """Panels from left to right, in as many lines as they need."""
    lines = _lay_out([(panel, _extent(panel)) for panel in panels])
    heights = [max(extent.height for _, extent in line) for line in lines]
    canvas = new_canvas(WIDE, max(1.4, sum(heights) + 0.05))
    axes = canvas.axes_in_inches()
    top = 0.0
    for line, height in zip(lines, heights, strict=True):
        left = 0.0
        for panel, extent in line:
            _draw_panel(axes, panel, extent, left, top, scale)
            left += extent.width
        top += height
    widest = max(sum(extent.width for _, extent in line) for line in lines)
    draw_bar(axes, Rectangle(min(widest + 0.1, WIDE - 0.45), _HEAD, 0.09, 0.9), scale)
    return canvas


def draw_squares(axes: Axes, values: Any, place: Rectangle, **options: Any) -> None:
    """A matrix as squares that fill a place."""
    right, bottom = place.left + place.width, place.top + place.height
    axes.imshow(
        values,
        extent=(place.left, right, bottom, place.top),
        interpolation="none",
        aspect="auto",
        **options,
    )


def draw_bar(axes: Axes, place: Rectangle, scale: Scale) -> None:
    """A colour bar with its ends, and its middle where it runs through 0."""
    colours, low, high = scale
    values = np.linspace(high, low, 64)[:, None]
    draw_squares(axes, values, place, cmap=colours, vmin=low, vmax=high)
    for mark in (low, 0.0, high) if low < 0 else (low, high):
        y = place.top + place.height * (high - mark) / (high - low or 1.0)
        write_small(axes, place.left + 0.14, y, f"{mark:.2g}", ha="left", va="center")


def write_small(axes: Axes, x: float, y: float, words: str, **options: Any) -> None:
    """Small letters beside a map."""
    axes.text(x, y, words, size=TINY, color=SOFT, **options)


def _lay_out(
    panels: Sequence[tuple[MapPanel, _Extent]],
) -> list[list[tuple[MapPanel, _Extent]]]:
    """Panels in lines, each as long as fits beside the colour bar."""
    lines: list[list[tuple[MapPanel, _Extent]]] = [[]]
    for panel, extent in panels:
        filled = sum(other.width for _, other in lines[-1])
        if lines[-1] and filled + extent.width > WIDE - BAR:
            lines.append([])
        lines[-1].append((panel, extent))
    return lines


def _extent(panel: MapPanel) -> _Extent:
    square = max(LEAST_SQUARE, min(0.17, 3.2 / max(1, len(panel.columns))))
    left = 0.1 + 0.068 * max([len(name) for name in panel.rows], default=0)
    foot = 0.12 + 0.066 * max([len(name) for name in panel.columns], default=0)
    width = max(left + square * len(panel.columns) + 0.28, 0.2 + 0.068 * len(panel.title))
    return _Extent(width, 0.42 + square * max(1, len(panel.rows)) + foot, left, square)


def _draw_panel(
    axes: Axes, panel: MapPanel, extent: _Extent, left: float, top: float, scale: Scale
) -> None:
    """The panel whose upper left corner stands at `left` and `top`."""
    from matplotlib.patches import Rectangle as Frame

    axes.text(left + 0.02, top + 0.08, panel.title, va="top", color=INK)
    if not panel.rows or not panel.columns:
        words = "no latent to show"
        axes.text(left + 0.02, top + 0.34, words, va="top", color=SOFT, style="italic")
        return
    x, y, square = left + extent.left, top + _HEAD, extent.square
    width, height = square * len(panel.columns), square * len(panel.rows)
    colours, low, high = scale
    place = Rectangle(x, y, width, height)
    draw_squares(axes, panel.values, place, cmap=colours, vmin=low, vmax=high)
    axes.add_patch(Frame((x, y), width, height, fill=False, edgecolor=FAINT, linewidth=0.6))
    letters: dict[str, Any] = {"size": min(TINY, square * 72 * 0.82), "color": SOFT}
    for column, name in enumerate(panel.columns):
        middle, below = x + square * (column + 0.5), y + height + 0.05
        axes.text(middle, below, name, rotation=90, ha="center", va="top", **letters)
    for row, name in enumerate(panel.rows):
        middle = y + square * (row + 0.5)
        axes.text(x - 0.05, middle, name, ha="right", va="center", **letters)
