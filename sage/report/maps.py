"""Heat maps: where contrasts live, what single latents detect, and where their directions point.

Maps of one kind share their limits on every page: F1 from 0 to 1, cosines from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sage.nodes import HEAD_KINDS, KINDS, Node, parse_node
from sage.report import drawing
from sage.report.cell import Matrix
from sage.report.drawing import Sheet, sheet, short
from sage.result import NodeRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TESTED, UNTESTED = "#c9ced3", "#eceef0"
SQUARE = 0.19
HALF = 4.9
MOST_SQUARES = 40  # in half a line
MOST_COLUMNS = 40

_LEFT, _TOP, _BAR, _GAP = 0.78, 0.42, 0.62, 0.16


class Block(NamedTuple):
    """The nodes of one kind at one position: `column` and `row` are where its corner stands on the
    canvas, in squares."""

    kind: str
    position: str
    column: int
    row: int


@dataclass(frozen=True)
class Panel:
    """One matrix to draw: numbers [row, column] under a title, with what rows and columns are
    called."""

    title: str
    values: Float[np.ndarray, "row column"]
    rows: list[str]
    columns: list[str]


def confirmed_map(evidence: Sequence[NodeRow]) -> Sheet | None:
    """Layer by head, one block for each kind and position with a confirmed node; None where there
    is none."""
    nodes = [(parse_node(found.node), found) for found in evidence]
    kept = [node for node, found in nodes if found.kept]
    if not kept:
        return None
    layers = 1 + max(node.layer for node, _ in nodes)
    heads = {
        kind: 1 + max((node.head or 0 for node, _ in nodes if node.kind == kind), default=0)
        for kind in KINDS
    }
    blocks = _blocks(kept, layers, heads)
    largest = max(found.statistic or 0.0 for _, found in nodes if found.kept)
    colours = _colours(nodes, blocks, layers, heads, largest)
    rows, columns = colours.shape[:2]
    square = min(
        SQUARE, ((drawing.WIDE if columns > MOST_SQUARES else HALF) - _LEFT - _BAR) / columns
    )
    width, height = columns * square, rows * square
    drawn = sheet(max(HALF, _LEFT + width + _BAR), _TOP + height + 0.42)
    canvas = drawn.canvas()
    _picture(canvas, colours, _LEFT, _TOP, width, height)
    _name_blocks(canvas, blocks, layers, heads, square)
    _bar(canvas, _LEFT + width + 0.14, _TOP, min(height, 1.3), drawing.AMOUNTS, 0.0, largest)
    return drawn


def matched(matrix: Matrix, *, one_to_one: bool) -> tuple[list[int], list[int]]:
    """Rows and columns to show: of the first 40 columns each one's best row, or the best matching
    of rows to columns.

    Matched columns come first, in the order of their rows.
    """
    columns = list(range(min(len(matrix.columns), MOST_COLUMNS)))
    if not len(matrix.values) or not columns:
        return [], columns
    part = matrix.values[:, columns]
    if one_to_one:
        from scipy.optimize import linear_sum_assignment

        rows, places = linear_sum_assignment(part, maximize=True)
        partner = dict(zip(places.tolist(), rows.tolist(), strict=True))
        columns = sorted(columns, key=lambda column: column not in partner)
        return [partner[column] for column in columns if column in partner], columns
    return list(
        dict.fromkeys(
            int(row) for row, most in zip(part.argmax(0), part.max(0), strict=True) if most > 0
        )
    ), columns


def matrix_sheet(panels: Sequence[Panel], *, cosines: bool) -> Sheet:
    """Panels from left to right, in as many lines as they need, with one colour bar for all."""
    sizes = [_extent(panel) for panel in panels]
    lines: list[list[int]] = [[]]
    for place, size in enumerate(sizes):
        if (
            lines[-1]
            and sum(sizes[other].width for other in lines[-1]) + size.width > drawing.WIDE - _BAR
        ):
            lines.append([])
        lines[-1].append(place)
    heights = [max(sizes[place].height for place in line) for line in lines]
    drawn = sheet(drawing.WIDE, max(1.4, sum(heights) + 0.05))
    canvas = drawn.canvas()
    low, high, colours = (-1.0, 1.0, drawing.COSINES) if cosines else (0.0, 1.0, drawing.AMOUNTS)
    top = 0.0
    for line, height in zip(lines, heights, strict=True):
        left = 0.0
        for place in line:
            _draw_panel(canvas, panels[place], sizes[place], left, top, colours, low, high)
            left += sizes[place].width
        top += height
    widest = max(sum(sizes[place].width for place in line) for line in lines)
    _bar(canvas, min(widest + 0.1, drawing.WIDE - 0.45), 0.36, 0.9, colours, low, high)
    return drawn


def _blocks(kept: Sequence[Node], layers: int, heads: dict[str, int]) -> list[Block]:
    """Kinds across, positions down; END comes last."""
    kinds = sorted({node.kind for node in kept}, key=KINDS.index)
    positions = sorted({node.position for node in kept}, key=lambda name: (name == "END", name))
    starts = [sum(heads[other] + 1 for other in kinds[:place]) for place in range(len(kinds))]
    return [
        Block(kind, position, start, line * (layers + 1))
        for line, position in enumerate(positions)
        for kind, start in zip(kinds, starts, strict=True)
    ]


def _colours(
    nodes: Sequence[tuple[Node, NodeRow]],
    blocks: Sequence[Block],
    layers: int,
    heads: dict[str, int],
    largest: float,
) -> Float[np.ndarray, "row column rgba"]:
    """Colours [row, column, rgba]: confirmed nodes by their statistic, others grey; layer 0 lies at
    the foot of a block."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    places = {(block.kind, block.position): block for block in blocks}
    size = (
        max(block.row for block in blocks) + layers,
        max(block.column + heads[block.kind] for block in blocks),
    )
    canvas = np.zeros((*size, 4))
    for node, found in nodes:
        block = places.get((node.kind, node.position))
        if block is None:
            continue
        colour = to_rgba(UNTESTED if found.statistic is None else TESTED)
        if found.kept:
            colour = colormaps[drawing.AMOUNTS]((found.statistic or 0.0) / (largest or 1.0))
        canvas[block.row + layers - 1 - node.layer, block.column + (node.head or 0)] = colour
    return canvas


def _name_blocks(
    canvas: Axes, blocks: Sequence[Block], layers: int, heads: dict[str, int], square: float
) -> None:
    """Kinds above, positions and layers to the left, heads below."""
    rows = sorted({block.row: block.position for block in blocks}.items())
    kinds = sorted({block.column: block.kind for block in blocks}.items())
    step = 1 if layers <= 6 else 3 if layers <= 14 else 6
    for row, position in rows:
        canvas.text(
            _LEFT - 0.26,
            _TOP + square * (row + layers / 2),
            short(position, 12),
            ha="right",
            va="center",
            color=drawing.INK,
        )
        for layer in range(0, layers, step):
            _letter(
                canvas,
                _LEFT - 0.05,
                _TOP + square * (row + layers - 0.5 - layer),
                str(layer),
                ha="right",
                va="center",
            )
    foot = _TOP + square * (rows[-1][0] + layers)
    for column, kind in kinds:
        canvas.text(
            _LEFT + square * column, _TOP - 0.06, kind, ha="left", va="bottom", color=drawing.INK
        )
        for head in range(
            0, heads[kind] if kind in HEAD_KINDS else 0, 1 if heads[kind] <= 8 else 4
        ):
            _letter(
                canvas,
                _LEFT + square * (column + head + 0.5),
                foot + 0.04,
                str(head),
                ha="center",
                va="top",
            )
    _letter(canvas, _LEFT - 0.08, _TOP - 0.06, "layer", ha="right", va="bottom")
    if any(kind in HEAD_KINDS for _, kind in kinds):
        _letter(canvas, _LEFT - 0.08, foot + 0.04, "head", ha="right", va="top")


def _letter(canvas: Axes, x: float, y: float, words: str, **options: Any) -> None:
    canvas.text(x, y, words, size=drawing.TINY, color=drawing.SOFT, **options)


def _picture(
    canvas: Axes, values: Any, left: float, top: float, width: float, height: float, **options: Any
) -> None:
    """A matrix as squares, its upper left corner at a place."""
    canvas.imshow(
        values,
        extent=(left, left + width, top + height, top),
        interpolation="none",
        aspect="auto",
        **options,
    )


class _Extent(NamedTuple):
    """How much room a panel takes, in inches, and its margins for names."""

    width: float
    height: float
    left: float
    foot: float
    square: float


def _extent(panel: Panel) -> _Extent:
    square = max(0.075, min(0.17, 3.2 / max(1, len(panel.columns))))
    left = 0.1 + 0.068 * max([len(name) for name in panel.rows], default=0)
    foot = 0.12 + 0.066 * max([len(name) for name in panel.columns], default=0)
    width = max(left + square * len(panel.columns) + 0.28, 0.2 + 0.068 * len(panel.title))
    return _Extent(width, 0.42 + square * max(1, len(panel.rows)) + foot, left, foot, square)


def _draw_panel(
    canvas: Axes,
    panel: Panel,
    size: _Extent,
    left: float,
    top: float,
    colours: str,
    low: float,
    high: float,
) -> None:
    from matplotlib.patches import Rectangle

    canvas.text(left + 0.02, top + 0.08, panel.title, va="top", color=drawing.INK)
    if not panel.rows or not panel.columns:
        canvas.text(
            left + 0.02,
            top + 0.34,
            "no latent to show",
            va="top",
            color=drawing.SOFT,
            style="italic",
        )
        return
    x, y, square = left + size.left, top + 0.36, size.square
    width, height = square * len(panel.columns), square * len(panel.rows)
    _picture(canvas, panel.values, x, y, width, height, cmap=colours, vmin=low, vmax=high)
    canvas.add_patch(
        Rectangle((x, y), width, height, fill=False, edgecolor=drawing.FAINT, linewidth=0.6)
    )
    letters = min(drawing.TINY, square * 72 * 0.82)
    for place, name in enumerate(panel.columns):
        canvas.text(
            x + square * (place + 0.5),
            y + height + 0.05,
            name,
            rotation=90,
            ha="center",
            va="top",
            size=letters,
            color=drawing.SOFT,
        )
    for place, name in enumerate(panel.rows):
        canvas.text(
            x - 0.05,
            y + square * (place + 0.5),
            name,
            ha="right",
            va="center",
            size=letters,
            color=drawing.SOFT,
        )


def _bar(
    canvas: Axes, left: float, top: float, height: float, colours: str, low: float, high: float
) -> None:
    """A colour bar with its ends, and its middle where it runs through 0."""
    _picture(
        canvas,
        np.linspace(high, low, 64)[:, None],
        left,
        top,
        0.09,
        height,
        cmap=colours,
        vmin=low,
        vmax=high,
    )
    for mark in (low, 0.0, high) if low < 0 else (low, high):
        _letter(
            canvas,
            left + 0.14,
            top + height * (high - mark) / (high - low or 1.0),
            f"{mark:.2g}",
            ha="left",
            va="center",
        )
