"""Cross-validation inside a fit: what a design leaves unexplained on prompts that it has not seen.

Method, section 3. It decides which attributes are coupled at a node, and whether the node has
supervised features at all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.dictionaries.design import Design
from sage.dictionaries.least_squares import Solver

FOLDS = 5


class Folded(NamedTuple):
    """A design solved on all prompts and without each fold."""

    design: Design
    train: tuple[Tensor, ...]
    held: tuple[Tensor, ...]
    solvers: tuple[Solver, ...]


def folded(design: Design, folds: Int[Tensor, "prompt"]) -> Folded:
    """A design ready for cross-validation; `folds` numbers each prompt's fold."""
    train = tuple((folds != fold).nonzero().flatten() for fold in range(FOLDS))
    held = tuple((folds == fold).nonzero().flatten() for fold in range(FOLDS))
    whole = design.solver
    solvers = tuple(Solver(whole.features[rows], whole.sizes, whole.how) for rows in train)
    return Folded(design, train, held, solvers)


def cross_validated(split: Folded, additive: Folded, values: Float[Tensor, "prompt d"]) -> float:
    """The unexplained share of variance on prompts held out in turn, nuisances included in the
    prediction; pairs of values unseen in training are left to the additive fit."""
    missed = values.new_zeros(())
    for fold, (train, held) in enumerate(zip(split.train, split.held, strict=True)):
        mean = values[train].mean(0)
        centred = values[train] - mean
        predicted = _predicted(split, fold, centred)
        if split is not additive:
            counts = split.solvers[fold].counts
            features = split.design.solver.features[held][:, : len(split.design.columns)]
            unseen = (counts[features] == 0).any(1)
            if unseen.any():
                plain = _predicted(additive, fold, centred)
                predicted = torch.where(unseen[:, None], plain, predicted)
        missed = missed + (values[held] - mean - predicted).square().sum()
    total = (values - values.mean(0)).square().sum()
    return float(missed / total.clamp(min=torch.finfo(values.dtype).tiny))


def _predicted(
    split: Folded, fold: int, centred: Float[Tensor, "train d"]
) -> Float[Tensor, "held d"]:
    """What the prompts held out have, about the mean, by the features of those that are not."""
    held = split.design.solver.features[split.held[fold]]
    predicted = centred.new_zeros(len(held), centred.shape[1])
    if not held.shape[1]:
        return predicted
    features = split.solvers[fold](centred)
    for block in held.T:
        predicted += features[block]
    return predicted
