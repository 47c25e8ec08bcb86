"""Which runs share a batch: those whose cones are alike, and others where a batch of their own
would cost more than it saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sage.models.anatomy import Anatomy
from sage.models.edits import Cells, Edits, Places
from sage.nodes import EVERYWHERE, Node


class Batch(NamedTuple):
    """Cells that are run together, and the number of positions their cones may hold."""

    cells: Cells
    positions: int


class _Group(NamedTuple):
    """So many cells, next to each other, whose cones begin at one layer and position."""

    cells: int
    layer: int
    start: int

    def cost(self, layers: int, length: int) -> int:
        """Token-layers at most."""
        return self.cells * (layers - self.layer) * (length - self.start)

    def join(self, other: _Group) -> _Group:
        """Both in one."""
        return _Group(
            self.cells + other.cells, min(self.layer, other.layer), min(self.start, other.start)
        )


def batches(
    edits: Edits,
    where: Places,
    chosen: Mapping[int, Int[Tensor, "own"]],
    *,
    length: int,
    anatomy: Anatomy,
    overhead: float,
) -> Iterator[Batch]:
    """The runs of some prompts of one length: of set `number` the rows `chosen[number]`.

    `overhead` is what a batch costs in floating-point operations for every layer, whatever it
    holds.
    """
    parts = [
        (number, own, *_beginning(edits[number], where, own, length, anatomy.layers))
        for number, own in chosen.items()
    ]
    cells = Cells(
        torch.cat([torch.full_like(own, number) for number, own, _, _ in parts]),
        torch.cat([own for _, own, _, _ in parts]),
    )
    layer, start = (
        torch.cat([layer for _, _, layer, _ in parts]),
        torch.cat([start for _, _, _, start in parts]),
    )
    order = ((layer * length + start) * (1 + int(cells.rows.max())) + cells.rows).argsort(
        stable=True
    )
    cells, kind = cells.take(order), (layer * length + start)[order]
    kinds, counts = kind.unique_consecutive(return_counts=True)
    groups = [
        _Group(count, *divmod(key, length))
        for key, count in zip(kinds.tolist(), counts.tolist(), strict=True)
    ]
    free = overhead / (24 * anatomy.d_model**2)
    first = 0
    for group in _joined(groups, anatomy.layers, length, free):
        yield Batch(cells.take(slice(first, first + group.cells)), length - group.start)
        first += group.cells


def _beginning(
    chosen: Mapping[Node, Tensor], where: Places, rows: Int[Tensor, "own"], length: int, layers: int
) -> tuple[Int[Tensor, "own"], Int[Tensor, "own"]]:
    """The lowest layer that edits change, and the first position, in each prompt."""
    layer, start = torch.full_like(rows, layers), torch.full_like(rows, length - 1)
    for node in chosen:
        layer = layer.clamp(max=node.layer + (node.kind == "resid_post"))
        start = torch.minimum(
            start,
            torch.zeros_like(rows) if node.position == EVERYWHERE else where[node.position][rows],
        )
    return layer, start


def _joined(groups: list[_Group], layers: int, length: int, free: float) -> Iterator[_Group]:
    """Neighbours joined wherever that costs fewer than `free` token-layers for each layer of the
    second."""
    current = groups[0]
    for group in groups[1:]:
        both = current.join(group)
        extra = (
            both.cost(layers, length) - current.cost(layers, length) - group.cost(layers, length)
        )
        if extra <= free * (layers - group.layer):
            current = both
        else:
            yield current
            current = group
    yield current
