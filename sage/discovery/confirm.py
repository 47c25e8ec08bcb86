"""Confirming a ranking: its top is patched exactly and held against what irrelevant changes do.

Section 2 of the method, points 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.discovery.pairs import ContrastPairs, IrrelevantPairs
from sage.discovery.statistic import null_level, passes, statistic
from sage.models.base import Model
from sage.nodes import Node


class Confirmed(NamedTuple):
    """Nodes patched exactly, in the order of their ranking, and which of them are kept.

    `effects` are dm on the contrast's pairs, `nulls` dm on irrelevant pairs of which `null_classes`
    are the classes, `level` the null. These three are None where there are no irrelevant pairs.
    """

    nodes: tuple[Node, ...]
    effects: Float[Tensor, "node pair"]
    nulls: Float[Tensor, "node null"] | None
    null_classes: Int[Tensor, "null"] | None
    level: float | None
    kept: Bool[Tensor, "node"]

    @property
    def null_n(self) -> int:
        """How many irrelevant pairs the null rests on."""
        return 0 if self.null_classes is None else len(self.null_classes)

    @property
    def section(self) -> list[Node]:
        """The nodes kept, in the order of their ranking."""
        return [node for node, kept in zip(self.nodes, self.kept.tolist(), strict=True) if kept]


def confirm(
    model: Model,
    contrast_pairs: ContrastPairs,
    ranks: Mapping[Node, int],
    irrelevant: IrrelevantPairs,
    *,
    top: int,
    seed: int,
) -> Confirmed:
    """Patch the nodes ranked before `top`, and twice as many while any of the last quarter passes.

    `ranks` is each node's better place in the two rankings, so up to twice `top` nodes are patched:
    the union of both tops.
    """
    ranking = sorted(ranks, key=lambda node: (ranks[node], node))
    classes = shuffled(contrast_pairs.classes, len(irrelevant.pairs), seed=seed)
    nodes: list[Node] = []
    effects = torch.empty(0, len(contrast_pairs.pairs), dtype=torch.float64)
    while True:
        new = [node for node in ranking if ranks[node] < top][len(nodes) :]
        effects = torch.cat([effects, contrast_pairs.effects(model, [(node,) for node in new])])
        nodes += new
        nulls = irrelevant.effects(model, nodes)[:, : len(classes)] if len(classes) else None
        level = None if nulls is None else null_level(nulls, classes)
        kept = passes(
            statistic(effects, contrast_pairs.classes),
            baseline=contrast_pairs.baseline,
            tau=contrast_pairs.tau,
            null=level,
        )
        in_last_quarter = torch.tensor([4 * ranks[node] >= 3 * top for node in nodes])
        if len(nodes) == len(ranking) or not (kept & in_last_quarter).any():
            null_classes = None if nulls is None else classes
            return Confirmed(tuple(nodes), effects, nulls, null_classes, level, kept)
        top *= 2


def shuffled(classes: Int[Tensor, "pair"], count: int, *, seed: int) -> Int[Tensor, "null"]:
    """The classes of a contrast's pairs dealt at random to as many irrelevant ones, or to `count`.

    `count` is how many irrelevant pairs there are.
    """
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    return classes[order][:count]
