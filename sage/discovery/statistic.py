"""The statistic that decides whether a contrast lives at a node: mean over directions of |E[dm]|.

Section 2 of the method, point 3. The mean effect dm is taken inside each direction: a plain mean
cancels when a sample holds a change and its reverse; the mean of absolute values does not, but
counts noise. The null is the same statistic on pairs in which only irrelevant attributes change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEAST_PAIRS = 10
NULL_QUANTILE = 0.99


def pool(directions: Sequence[Hashable], *, least: int = LEAST_PAIRS) -> Int[Tensor, "pair"]:
    """Directions as classes 0, 1, ... in order of first appearance.

    Those with fewer than `least` pairs become one class, the last.
    """
    counts = Counter(directions)
    large = [direction for direction, count in counts.items() if count >= least]
    class_of = {direction: number for number, direction in enumerate(large)}
    classes = [class_of.get(direction, len(large)) for direction in directions]
    return torch.tensor(classes, dtype=torch.long)


class ClassVariances(NamedTuple):
    """The sample variance of effects inside each class (0 of a single pair), and the number of
    pairs it rests on."""

    variances: Float[Tensor, "node class"]
    counts: Float[Tensor, "node class"]


def statistic(
    effects: Float[Tensor, "node pair"], classes: Int[Tensor, "pair"]
) -> Float[Tensor, "node"]:
    """Mean over classes of the absolute mean effect inside the class, in float64.

    Effects that are NaN are not known, and left out.
    """
    return _class_means(effects, classes).abs().mean(1)


def standard_error(
    effects: Float[Tensor, "node pair"], classes: Int[Tensor, "pair"]
) -> Float[Tensor, "node"]:
    """Standard error of the statistic over pairs: that of a mean of independent class means.

    A class of one pair counts as exact.
    """
    inside = class_variances(effects, classes)
    return (inside.variances / inside.counts).sum(1).sqrt() / inside.counts.shape[1]


def class_variances(
    effects: Float[Tensor, "node pair"], classes: Int[Tensor, "pair"]
) -> ClassVariances:
    """How much the effects vary inside each class, over the pairs where they are known."""
    members = _membership(classes)
    centred = effects.double() - _class_means(effects, classes) @ members.T
    counts = (~effects.isnan()).double() @ members
    variances = centred.nan_to_num().square() @ members / (counts - 1).clamp(min=1)
    return ClassVariances(variances, counts)


def null_level(effects: Float[Tensor, "node pair"], classes: Int[Tensor, "pair"]) -> float:
    """The 99th percentile over nodes of the statistic on irrelevant pairs."""
    return float(torch.quantile(statistic(effects, classes), NULL_QUANTILE))


def null_deciders(nodes: int) -> int:
    """How many of that many nodes the null rests on: those with the largest statistics."""
    return nodes - int(NULL_QUANTILE * (nodes - 1))


def passes(
    values: Float[Tensor, "node"], *, baseline: float, tau: float, null: float | None
) -> Bool[Tensor, "node"]:
    """Whether a statistic reaches tau of `baseline` = E|m(p)| and is above the null.

    The null is None where there are no irrelevant pairs.
    """
    large = values >= tau * baseline
    return large if null is None else large & (values > null)


def _class_means(
    effects: Float[Tensor, "node pair"], classes: Int[Tensor, "pair"]
) -> Float[Tensor, "node class"]:
    members = _membership(classes)
    counts = (~effects.isnan()).double() @ members
    return effects.double().nan_to_num() @ members / counts


def _membership(classes: Int[Tensor, "pair"]) -> Float[Tensor, "pair class"]:
    """1 where a pair is of a class, else 0; classes without pairs are left out."""
    members = torch.nn.functional.one_hot(classes).double()
    return members[:, members.sum(0) > 0]
