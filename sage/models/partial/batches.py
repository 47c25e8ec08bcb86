"""Which runs share a batch: those whose cones begin alike.

So do others where a batch of their own would cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sage.models.anatomy import Anatomy
from sage.models.edits import EditBucket, EditedRuns, EditSet, hook_point
from sage.models.partial.cone import first_layer
from sage.nodes import EVERYWHERE


class Batch(NamedTuple):
    """Runs that are made together, and the number of positions their cones may hold."""

    runs: EditedRuns
    positions: int


class _Beginning(NamedTuple):
    """So many runs, next to each other, whose cones begin at one layer and position."""

    runs: int
    layer: int
    position: int

    def cost(self, layers: int, length: int) -> int:
        """Token-layers at most."""
        return self.runs * (layers - self.layer) * (length - self.position)

    def join(self, other: _Beginning) -> _Beginning:
        """Both in one."""
        return _Beginning(
            self.runs + other.runs,
            min(self.layer, other.layer),
            min(self.position, other.position),
        )


def batches(bucket: EditBucket, *, anatomy: Anatomy, overhead: float) -> Iterator[Batch]:
    """The runs of a bucket that must be made, none twice.

    `overhead` is what a batch costs in floating-point operations for every layer, whatever it
    holds.
    """
    runs, beginning = _in_order(bucket, anatomy.layers)
    beginnings, counts = beginning.unique_consecutive(return_counts=True)
    groups = [
        _Beginning(count, *divmod(layer_and_position, bucket.length))
        for layer_and_position, count in zip(beginnings.tolist(), counts.tolist(), strict=True)
    ]
    # A layer multiplies and adds 12 d_model^2 weights at every token.
    free_token_layers = overhead / (24 * anatomy.d_model**2)
    first = 0
    for group in _joined(groups, anatomy.layers, bucket.length, free_token_layers):
        yield Batch(runs[first : first + group.runs], bucket.length - group.position)
        first += group.runs


def _in_order(bucket: EditBucket, layers: int) -> tuple[EditedRuns, Int[Tensor, "run"]]:
    """The runs that must be made, by where their cones begin, then by prompt, then by set; and for
    each layer * length + position of that beginning."""
    runs = bucket.runs_to_make
    layer = torch.tensor([_first_layer(edit_set, layers) for edit_set in bucket.edits])[:, None]
    position = torch.stack([_first_position(edit_set, bucket) for edit_set in bucket.edits])
    beginning = (layer * bucket.length + position)[runs.table_index]
    order = (beginning * len(bucket) + runs.prompt_index).argsort(stable=True)
    return runs[order], beginning[order]


def _first_layer(edit_set: EditSet, layers: int) -> int:
    return first_layer({hook_point(node) for node in edit_set}, layers)


def _first_position(edit_set: EditSet, bucket: EditBucket) -> Int[Tensor, "prompt"]:
    """The first position that a set edits in every prompt; the last of all where it edits none."""
    names = {node.position for node in edit_set}
    if EVERYWHERE in names:
        return torch.zeros(len(bucket), dtype=torch.long)
    first = torch.full((len(bucket),), bucket.length - 1)
    for name in names:
        first = torch.minimum(first, bucket.token_index[name])
    return first


def _joined(
    groups: Sequence[_Beginning], layers: int, length: int, free_token_layers: float
) -> Iterator[_Beginning]:
    """Neighbours joined wherever that costs no more than the free token-layers for each layer of
    the second."""
    current = groups[0]
    for group in groups[1:]:
        both = current.join(group)
        apart = current.cost(layers, length) + group.cost(layers, length)
        if both.cost(layers, length) - apart <= free_token_layers * (layers - group.layer):
            current = both
        else:
            yield current
            current = group
    yield current
