"""Maps of a model's nodes, layer by head: which ones a contrast acts through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from sage.nodes import HEAD_KINDS, KINDS, Node
from sage.report.charts.canvas import Canvas, new_canvas, short
from sage.report.charts.heat_map import BAR, Rectangle, Scale, draw_bar, draw_squares, write_small
from sage.report.charts.look import AMOUNTS, INK, WIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PATCHED, _RANKED = "#c9ced3", "#eceef0"
_SQUARE = 0.19
_HALF = 4.9
_MOST_SQUARES_IN_HALF = 40
_LEFT, _TOP, _FOOT = 0.78, 0.42, 0.42


class MappedNode(NamedTuple):
    """A node, its statistic (None: ranked too low to be patched), and whether it is confirmed."""

    node: Node
    statistic: float | None
    confirmed: bool


class _NodeBlock(NamedTuple):
    """The nodes of one kind at one position: where their corner stands on the map, in squares."""

    kind: str
    position: str
    column: int
    row: int


@dataclass(frozen=True)
class _Grid:
    """Blocks, kinds across and positions down, END last; layer 0 lies at the foot of a block."""

    blocks: Sequence[_NodeBlock]
    layers: int
    heads: Mapping[str, int]

    @property
    def rows(self) -> int:
        return max(block.row for block in self.blocks) + self.layers

    @property
    def columns(self) -> int:
        return max(block.column + self.heads[block.kind] for block in self.blocks)


def node_map(nodes: Sequence[MappedNode]) -> Canvas | None:
    """A block for each kind and position with a confirmed node; None where there is none."""
    statistics = [node.statistic or 0.0 for node in nodes if node.confirmed]
    if not statistics:
        return None
    largest = max(statistics)
    grid = _lay_out(nodes)
    room = WIDE if grid.columns > _MOST_SQUARES_IN_HALF else _HALF
    square = min(_SQUARE, (room - _LEFT - BAR) / grid.columns)
    width, height = grid.columns * square, grid.rows * square
    canvas = new_canvas(max(_HALF, _LEFT + width + BAR), _TOP + height + _FOOT)
    axes = canvas.axes_in_inches()
    draw_squares(axes, _colours(nodes, grid, largest), Rectangle(_LEFT, _TOP, width, height))
    _name_rows(axes, grid, square)
    _name_columns(axes, grid, square)
    bar = Rectangle(_LEFT + width + 0.14, _TOP, 0.09, min(height, 1.3))
    draw_bar(axes, bar, Scale(AMOUNTS, 0.0, largest))
    return canvas


def _lay_out(nodes: Sequence[MappedNode]) -> _Grid:
    layers = 1 + max(mapped.node.layer for mapped in nodes)
    heads: dict[str, int] = {}
    for mapped in nodes:
        kind = mapped.node.kind
        heads[kind] = max(heads.get(kind, 1), 1 + (mapped.node.head or 0))
    confirmed = [mapped.node for mapped in nodes if mapped.confirmed]
    kinds = sorted({node.kind for node in confirmed}, key=KINDS.index)
    positions = sorted(
        {node.position for node in confirmed}, key=lambda name: (name == "END", name)
    )
    blocks: list[_NodeBlock] = []
    for line, position in enumerate(positions):
        column = 0
        for kind in kinds:
            blocks.append(_NodeBlock(kind, position, column, line * (layers + 1)))
            column += heads[kind] + 1
    return _Grid(blocks, layers, heads)


def _colours(
    nodes: Sequence[MappedNode], grid: _Grid, largest: float
) -> Float[np.ndarray, "row column rgba"]:
    """Confirmed nodes by their statistic, others grey; squares without a node are transparent."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    blocks = {(block.kind, block.position): block for block in grid.blocks}
    colours = np.zeros((grid.rows, grid.columns, 4))
    for node, statistic, confirmed in nodes:
        block = blocks.get((node.kind, node.position))
        if block is None:
            continue
        colour = to_rgba(_RANKED if statistic is None else _PATCHED)
        if confirmed:
            colour = colormaps[AMOUNTS]((statistic or 0.0) / (largest or 1.0))
        row, column = block.row + grid.layers - 1 - node.layer, block.column + (node.head or 0)
        colours[row, column] = colour
    return colours


def _name_rows(axes: Axes, grid: _Grid, square: float) -> None:
    """Positions and layers, to the left."""
    rows = sorted({block.row: block.position for block in grid.blocks}.items())
    step = 1 if grid.layers <= 6 else 3 if grid.layers <= 14 else 6
    for row, position in rows:
        middle = _TOP + square * (row + grid.layers / 2)
        axes.text(_LEFT - 0.26, middle, short(position, 12), ha="right", va="center", color=INK)
        for layer in range(0, grid.layers, step):
            middle = _TOP + square * (row + grid.layers - 0.5 - layer)
            write_small(axes, _LEFT - 0.05, middle, str(layer), ha="right", va="center")


def _name_columns(axes: Axes, grid: _Grid, square: float) -> None:
    """Kinds above, heads below."""
    kinds = sorted({block.column: block.kind for block in grid.blocks}.items())
    above, below = _TOP - 0.06, _TOP + square * grid.rows + 0.04
    for column, kind in kinds:
        axes.text(_LEFT + square * column, above, kind, ha="left", va="bottom", color=INK)
        heads, step = grid.heads[kind], 1 if grid.heads[kind] <= 8 else 4
        for head in range(0, heads if kind in HEAD_KINDS else 0, step):
            middle = _LEFT + square * (column + head + 0.5)
            write_small(axes, middle, below, str(head), ha="center", va="top")
    write_small(axes, _LEFT - 0.08, above, "layer", ha="right", va="bottom")
    if any(kind in HEAD_KINDS for _, kind in kinds):
        write_small(axes, _LEFT - 0.08, below, "head", ha="right", va="top")
