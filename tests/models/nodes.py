"""Nodes to try a model at, and their values."""

from __future__ import annotations

from torch import Tensor

from sage.models.base import Model
from sage.nodes import EVERYWHERE, HEAD_KINDS, KINDS, Node


def some_nodes(model: Model, position: str) -> list[Node]:
    """A node of every kind the model has, of its second head: in its first layer, and in its last,
    where END alone reaches the logits."""
    kinds = [
        kind
        for kind in KINDS
        if kind != "embed" and not (kind == "resid_mid" and model.anatomy.parallel)
    ]
    last_position = position if position == EVERYWHERE else "END"
    places = ((0, position), (model.anatomy.layers - 1, last_position))
    nodes = [Node("embed", -1, None, position)]
    for layer, name in places:
        nodes += [Node(kind, layer, 1 if kind in HEAD_KINDS else None, name) for kind in kinds]
    return nodes


def without_padding(padded: Tensor, like: Tensor) -> Tensor:
    """As much of a padded value as there is of another."""
    return padded[tuple(slice(size) for size in like.shape)]
