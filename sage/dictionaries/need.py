"""Need: the unit of a budget, how many supervised candidates change between p and p' at a site.

Method, section 5.3. A fixed number of latents favours whichever sparsity suits it; the budgets are
need, twice and four times as much, at each site by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Labels, Site, sites
from sage.dictionaries.supervised import MIN_CARRIED, FeatureDictionary, NodeFeatures, NodeFit

LEAST = 2
MULTIPLES = (1, 2, 4)


def needs(features: FeatureDictionary, base: Activations, labels: Labels) -> dict[Site, int]:
    """The need of every site: the features that change in columns that carry at least 1 % of the
    variance of some node of the site (2 for one column, coarse and fine ones apart), the most over
    its nodes, the median over pairs rounded up, at least 2."""
    before = base.prompt_labels
    needed: dict[Site, int] = {}
    for site, nodes in sites(base.nodes, base.anatomy).items():
        fits = [features.fits[node] for node in nodes]
        carried = _carried([fit.chosen for fit in fits])
        plain = _carried([fit.additive for fit in fits])
        counts = [_changed(fit, carried, plain, before, labels) for fit in fits]
        per_pair = np.stack([count.numpy() for count in counts]).max(0)
        needed[site] = max(LEAST, math.ceil(float(np.median(per_pair))))
    return needed


def _carried(fits: Sequence[NodeFeatures]) -> set[str]:
    """The columns that carry at least 1 % of the variance of some of a site's nodes."""
    carried: set[str] = set()
    for fit in fits:
        shares = zip(fit.columns, fit.carried, strict=True)
        carried |= {column.name for column, share in shares if share >= MIN_CARRIED}
    return carried


def _changed(
    fit: NodeFit, carried: set[str], plain: set[str], before: Labels, after: Labels
) -> Int[Tensor, "pair"]:
    """How many features of the columns `carried` change at a node; of the columns `plain` of the
    additive fit where that serves a pair."""
    unseen = fit.unseen(before, after)
    chosen = _changed_features(fit.chosen, carried, before, after)
    if not unseen.any():
        return chosen
    return torch.where(unseen, _changed_features(fit.additive, plain, before, after), chosen)


def _changed_features(
    fit: NodeFeatures, carried: set[str], before: Labels, after: Labels
) -> Int[Tensor, "pair"]:
    counted = torch.tensor(
        [fit.columns[column].name in carried for column in fit.column_of_feature]
    )
    changes = fit.codes(before).cpu() != fit.codes(after).cpu()
    return (changes & counted).sum(1)
