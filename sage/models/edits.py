"""Edits of many runs as one batch: which values stand where, and which runs are the same.

A cell is one run: a set of edits on one prompt. Cells of many sets share a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sage.models.steps import EMBED, Point
from sage.nodes import EVERYWHERE, Node
from sage.task.tokens import Tokenized

Edits = Sequence[Mapping[Node, Tensor]]
Places = Mapping[str, Int[Tensor, "prompt"]]


class Cells(NamedTuple):
    """Runs of one batch: the number of the set of edits of each, and the row of its prompt."""

    numbers: Int[Tensor, "cell"]
    rows: Int[Tensor, "cell"]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, some: Tensor | slice) -> Cells:
        """Some of the cells."""
        return Cells(self.numbers[some], self.rows[some])


class Scatter(NamedTuple):
    """Values to set in one point of a batch: [edit, d], each with its batch row, position, and head
    where the point has heads."""

    rows: Int[Tensor, "edit"]
    positions: Int[Tensor, "edit"]
    heads: Int[Tensor, "edit"] | None
    values: Tensor

    def __call__(self, whole: Tensor) -> Tensor:
        """The point, [batch, position, ...], with the values in it."""
        index = (
            (self.rows, self.positions)
            if self.heads is None
            else (self.rows, self.positions, self.heads)
        )
        return whole.index_put(
            tuple(axis.to(whole.device) for axis in index), self.values.to(whole)
        )

    def held(self, positions: Sequence[int]) -> Scatter:
        """The values at these positions, which are all that a tensor holds, numbered by their place
        in it."""
        place = torch.full((int(self.positions.max()) + 1,), -1)
        for number, position in enumerate(positions):
            if position < len(place):
                place[position] = number
        own = place[self.positions]
        kept = own >= 0
        return Scatter(
            self.rows[kept],
            own[kept],
            None if self.heads is None else self.heads[kept],
            self.values[kept.to(self.values.device)],
        )


def point(node: Node) -> Point:
    """The whole activation that a node is of."""
    return EMBED if node.kind == "embed" else Point(node.kind, node.layer)


def places(edits: Edits, prompts: Sequence[Tokenized]) -> Places:
    """The token index of every named position that is edited, in every prompt."""
    names = {node.position for chosen in edits for node in chosen} - {EVERYWHERE}
    return {name: torch.tensor([prompt.index[name] for prompt in prompts]) for name in names}


def scatters(edits: Edits, cells: Cells, where: Places, *, length: int) -> dict[Point, Scatter]:
    """What to set in each point of a batch of cells whose prompts have this length."""
    parts: dict[Point, list[Scatter]] = {}
    for number in cells.numbers.unique().tolist():
        batch = (cells.numbers == number).nonzero()[:, 0]
        rows = cells.rows[batch]
        for node, value in edits[number].items():
            own = value[rows.to(value.device)]
            if node.position == EVERYWHERE:
                positions, at, own = (
                    torch.arange(length).repeat(len(batch)),
                    batch.repeat_interleave(length),
                    own[:, :length].flatten(0, 1),
                )
            else:
                positions, at = where[node.position][rows], batch
            heads = None if node.head is None else torch.full_like(at, node.head)
            parts.setdefault(point(node), []).append(Scatter(at, positions, heads, own))
    return {key: _together(found) for key, found in parts.items()}


def repeats(edits: Edits, prompts: int) -> Int[Tensor, "number prompt"]:
    """For every set of edits and prompt the first of the sets just before it, or itself, that sets
    the same nodes to the same values.

    A greedy choice that has come to its end says the same for every larger budget.
    """
    found = torch.arange(len(edits))[:, None].repeat(1, prompts)
    for number in range(1, len(edits)):
        before, now = edits[number - 1], edits[number]
        if before.keys() == now.keys():
            same = torch.ones(prompts, dtype=torch.bool)
            for node, value in now.items():
                if value is not before[node]:
                    same &= (value == before[node].to(value)).flatten(1).all(1).cpu()
            found[number] = torch.where(same, found[number - 1], found[number])
    return found


def _together(parts: Sequence[Scatter]) -> Scatter:
    if len(parts) == 1:
        return parts[0]
    heads = [part.heads for part in parts if part.heads is not None]
    rows, positions = (
        torch.cat([part.rows for part in parts]),
        torch.cat([part.positions for part in parts]),
    )
    together = torch.cat(heads) if heads else None
    values = torch.cat([part.values.to(parts[0].values) for part in parts])
    kept = _last_of_each(rows, positions, torch.zeros_like(rows) if together is None else together)
    return Scatter(
        rows[kept],
        positions[kept],
        None if together is None else together[kept],
        values[kept.to(values.device)],
    )


def _last_of_each(*index: Int[Tensor, "edit"]) -> Int[Tensor, "kept"]:
    """Two names of one position set it twice: the last value stands, whatever the order in which a
    device scatters."""
    key = torch.zeros_like(index[0])
    for axis in index:
        key = key * (1 + int(axis.max())) + axis
    order = key.argsort(stable=True)
    key = key[order]
    last = torch.cat([key[1:] != key[:-1], torch.ones(1, dtype=torch.bool)])
    return order[last]
