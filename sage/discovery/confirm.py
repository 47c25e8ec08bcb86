"""Confirming a ranking: its top is patched exactly and held against what irrelevant changes do.

Section 2 of the method, points 2 and 3. Nodes are patched in the order of attribution, and no
further than it takes to know whether they can matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.discovery.looks import Looks, all_at_once, plan_looks
from sage.discovery.pairs import ContrastPairs, NodeSet, PatchedPairs
from sage.discovery.sequential import ComparedSets, patch_above, patch_highest
from sage.discovery.statistic import null_level, passes, statistic
from sage.nodes import Node
from sage.progress import advance, expect

# The chance that the section or the null of a contrast is not that of all nodes on all pairs.
ERROR = 0.01
# Looks are drawn by other numbers than classes are dealt by.
_LOOK_SEED = 1 << 20


class Confirmed(NamedTuple):
    """Nodes patched exactly, in the order of their ranking, and which of them are kept.

    `effects` are dm on the contrast's pairs, `nulls` dm on irrelevant pairs of which `null_classes`
    are the classes, `level` the null. These three are None where there are no irrelevant pairs.
    Effects are NaN on the pairs that a node was dropped before.
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

    @property
    def n(self) -> Int[Tensor, "node"]:
        """On how many of the contrast's pairs each node was patched."""
        return (~self.effects.isnan()).sum(1)

    @property
    def in_full(self) -> Bool[Tensor, "node"]:
        """Which nodes were patched on all of them."""
        return self.n == self.effects.shape[1]


def confirm(
    contrast_pairs: ContrastPairs,
    patched: PatchedPairs,
    ranks: Mapping[Node, int],
    irrelevant: PatchedPairs,
    *,
    top: int,
    seed: int,
    error: float = ERROR,
) -> Confirmed:
    """Patch the nodes ranked before `top`, and twice as many while any of the last quarter passes.

    `ranks` is each node's better place in the two rankings, so up to twice `top` nodes are patched:
    the union of both tops. Irrelevant pairs come first: a node that stays below the null, or below
    tau, can be dropped. Half of the error is spent on the first nodes, a quarter on the next, and
    so on, and half of each on the null. With no error nothing is dropped.
    """
    ranking = sorted(ranks, key=lambda node: (ranks[node], node))
    looks = _plan(contrast_pairs.classes, len(irrelevant.pairs), seed=seed, error=error)
    candidates = ComparedSets.among([], error=0.0)
    while True:
        new = [(node,) for node in ranking if ranks[node] < top][len(candidates.sets) :]
        expect(_unmeasured(new, patched, irrelevant, looks))
        error /= 2
        candidates = candidates.and_then(ComparedSets.among(new, error=error / 2))
        confirmed = _confirmed(contrast_pairs, patched, irrelevant, candidates, looks)
        in_last_quarter = torch.tensor([4 * ranks[node] >= 3 * top for node in confirmed.nodes])
        if len(confirmed.nodes) == len(ranking) or not (confirmed.kept & in_last_quarter).any():
            advance(_unmeasured(candidates.sets, patched, irrelevant, looks))
            return confirmed
        top *= 2


def shuffled(classes: Int[Tensor, "pair"], count: int, *, seed: int) -> Int[Tensor, "null"]:
    """The classes of a contrast's pairs dealt at random to as many irrelevant ones, or to `count`.

    `count` is how many irrelevant pairs there are.
    """
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    return classes[order][:count]


def looks_at(classes: Int[Tensor, "pair"], *, seed: int, error: float) -> Looks:
    """The looks at a contrast's pairs; with no error there is but one, at all of them."""
    return plan_looks(classes, _order(len(classes), seed)) if error else all_at_once(classes)


class _LooksAtBoth(NamedTuple):
    """Looks at a contrast's own pairs, and at irrelevant ones."""

    own: Looks
    null: Looks


def _plan(
    classes: Int[Tensor, "pair"], irrelevant: int, *, seed: int, error: float
) -> _LooksAtBoth:
    """All contrasts look at irrelevant pairs in one order, whatever classes they deal to them."""
    own, dealt = looks_at(classes, seed=seed, error=error), shuffled(classes, irrelevant, seed=seed)
    if not error or not len(dealt):
        return _LooksAtBoth(own, all_at_once(dealt))
    order = _order(irrelevant, seed)
    at_null = plan_looks(dealt, order[order < len(dealt)], strata=torch.zeros_like(dealt))
    return _LooksAtBoth(own, at_null)


def _confirmed(
    contrast_pairs: ContrastPairs,
    patched: PatchedPairs,
    irrelevant: PatchedPairs,
    candidates: ComparedSets,
    looks: _LooksAtBoth,
) -> Confirmed:
    """What these nodes do, and which of them are kept."""
    classes = looks.null.classes if len(looks.null.classes) else None
    nulls = level = None
    if classes is not None:
        nulls = patch_highest(irrelevant, candidates, looks.null)
        level = null_level(nulls, classes)
    bar = max(contrast_pairs.least, level or 0.0)
    effects = patch_above(patched, candidates, looks.own, bar=bar)
    kept = passes(
        statistic(effects, contrast_pairs.classes),
        baseline=contrast_pairs.baseline,
        tau=contrast_pairs.tau,
        null=level,
    )
    nodes = tuple(node for (node,) in candidates.sets)
    return Confirmed(nodes, effects, nulls, classes, level, kept)


def _unmeasured(
    sets: Sequence[NodeSet], patched: PatchedPairs, irrelevant: PatchedPairs, looks: _LooksAtBoth
) -> int:
    """How many runs are left to patch all of these on all pairs."""
    own = patched.unmeasured(sets, len(looks.own.classes))
    return own + irrelevant.unmeasured(sets, len(looks.null.classes))


def _order(count: int, seed: int) -> Int[Tensor, "pair"]:
    generator = torch.Generator().manual_seed(_LOOK_SEED + seed)
    return torch.randperm(count, generator=generator)
