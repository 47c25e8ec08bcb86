"""Names beside dots, where there is room for them; the data has all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sage.report.charts.canvas import short
from sage.report.charts.look import SOFT, TINY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS_PER_INCH = 72
_LETTER, _HALF_LINE, _GAP = 0.047, 0.045, 0.09


class _Box(NamedTuple):
    """A rectangle in inches from the lower left corner of the axes."""

    left: float
    right: float
    low: float
    high: float

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.low < other.high and other.low < self.high

    def holds(self, other: _Box) -> bool:
        across = self.left <= other.left and other.right <= self.right
        return across and self.low <= other.low and other.high <= self.high


class DotName(NamedTuple):
    """A name and its dot, in the data's units."""

    name: str
    x: float
    y: float


def name_dots(axes: Axes, dots: Sequence[DotName], width: float, height: float) -> None:
    """Write each name where it meets no dot and no other name, or not at all.

    `width` and `height` are those of the axes in inches; x is logarithmic, y is not.
    """
    first, last, low, high = map(float, (*axes.get_xlim(), *axes.get_ylim()))
    centres = [
        (
            width * math.log(dot.x / first) / math.log(last / first),
            height * (dot.y - low) / (high - low),
        )
        for dot in dots
    ]
    taken = [_Box(x - 0.05, x + 0.05, y - 0.05, y + 0.05) for x, y in centres]
    room = _Box(0, width + 0.12, 0, height)
    for dot, (x, y) in zip(dots, centres, strict=True):
        name = short(dot.name, 22)
        box = _free_box(x, y, _LETTER * len(name), room, taken)
        if box is None:
            continue
        taken.append(box)
        right, up = box.left - x, (box.low + box.high) / 2 - y
        axes.annotate(
            name,
            (dot.x, dot.y),
            xytext=(_POINTS_PER_INCH * right, _POINTS_PER_INCH * up),
            textcoords="offset points",
            size=TINY - 0.5,
            color=SOFT,
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )


def _free_box(x: float, y: float, length: float, room: _Box, taken: list[_Box]) -> _Box | None:
    """The first place for a name of this length that lies in the room and meets nothing."""
    for box in _boxes_around(x, y, length):
        if room.holds(box) and not any(map(box.meets, taken)):
            return box
    return None


def _boxes_around(x: float, y: float, length: float) -> Iterator[_Box]:
    """Where a name may stand: right, left, above, below, and the corners."""
    sides = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    for across, up in sides:
        left = {1: x + _GAP, 0: x - length / 2, -1: x - _GAP - length}[across]
        middle = y + up * (0.13 if across == 0 else 0.1)
        yield _Box(left, left + length, middle - _HALF_LINE, middle + _HALF_LINE)
