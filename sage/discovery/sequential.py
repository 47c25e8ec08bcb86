"""The sequential test: sets of nodes are patched on ever more pairs, until they cannot matter.

They are patched on an eighth of the pairs, a quarter, a half, all, and dropped as soon as their
statistic on all pairs is beyond doubt too small to decide anything (method, section 2.2). What is
dropped is what `looks.upper_bounds` puts below a bar: the threshold of a section, or the
nodes whose statistics are the null. Over all sets and looks of a contrast the chance that the bound
is wrong anywhere, and so that a section or a null differs from that of all sets patched on all
pairs, is at most the `chance` of each set added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.discovery.looks import Looks, upper_bounds
from sage.discovery.pairs import NodeSet, PatchedPairs
from sage.discovery.statistic import null_deciders, statistic


class ComparedSets(NamedTuple):
    """Sets of nodes, and for each the chance that a look may drop it wrongly, over all looks."""

    sets: tuple[NodeSet, ...]
    chance: Float[Tensor, "set"]

    @staticmethod
    def among(sets: Sequence[NodeSet], *, error: float) -> ComparedSets:
        """Sets that share an error equally."""
        share = torch.full((len(sets),), error / max(1, len(sets)), dtype=torch.float64)
        return ComparedSets(tuple(sets), share)

    def and_then(self, others: ComparedSets) -> ComparedSets:
        """These and others."""
        return ComparedSets((*self.sets, *others.sets), torch.cat([self.chance, others.chance]))


def patch_above(
    patched: PatchedPairs, candidates: ComparedSets, looks: Looks, *, bar: float
) -> Float[Tensor, "set pair"]:
    """dm of every set: on all pairs, or, where these cannot lift its statistic to the bar, on those
    of its last look (NaN on the others)."""
    while True:
        state = _look(patched, candidates, looks)
        undecided = ~state.in_full & (state.upper >= bar)
        if not undecided.any():
            return state.effects
        _patch_until(patched, candidates.sets, looks, state.reached + undecided.long())


def patch_highest(
    patched: PatchedPairs, candidates: ComparedSets, looks: Looks
) -> Float[Tensor, "set pair"]:
    """dm of every set: on all pairs, or, where its statistic cannot be among those that the null is
    taken from, on those of its last look (NaN on the others).

    The sets that lead go on first, look by look, until those that lead are known in full: that is
    the bar.
    """
    deciders = null_deciders(len(candidates.sets))
    while True:
        state = _look(patched, candidates, looks)
        leads = torch.zeros_like(state.in_full)
        leads[state.statistic.topk(deciders).indices] = True
        undecided = leads & ~state.in_full
        if not undecided.any():
            undecided = ~state.in_full & (state.upper >= state.statistic[leads].min())
        if not undecided.any():
            return state.effects
        _patch_until(patched, candidates.sets, looks, state.reached + undecided.long())


class _State(NamedTuple):
    """What is known of every set: the look it has reached, whether that is all pairs, the effects
    there, their statistic, and what the statistic on all pairs does not exceed."""

    reached: Int[Tensor, "set"]
    in_full: Bool[Tensor, "set"]
    effects: Float[Tensor, "set pair"]
    statistic: Float[Tensor, "set"]
    upper: Float[Tensor, "set"]


def _look(patched: PatchedPairs, candidates: ComparedSets, looks: Looks) -> _State:
    """Everything at the last look of every set; sets without one are looked at first."""
    sets, pairs = candidates.sets, len(looks.classes)
    patched.measure(sets, looks.parts[0].tolist())
    effects = looks.cut(patched.effects(sets)[:, :pairs])
    reached = looks.reached(effects)
    upper = upper_bounds(
        effects,
        looks.classes,
        attributed=patched.attribution(sets)[:, :pairs],
        chance=candidates.chance / max(1, looks.tests),
    )
    in_full = reached == len(looks.parts) - 1
    return _State(reached, in_full, effects, statistic(effects, looks.classes), upper)


def _patch_until(
    patched: PatchedPairs, sets: Sequence[NodeSet], looks: Looks, target: Int[Tensor, "set"]
) -> None:
    """Patch every set as far as a look.

    What each look adds is patched by itself, so that its clean runs serve all sets.
    """
    for number, part in enumerate(looks.parts):
        ends = zip(sets, target.tolist(), strict=True)
        patched.measure([node_set for node_set, end in ends if end >= number], part.tolist())
