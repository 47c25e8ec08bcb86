"""Looks: growing parts of some pairs, and what a part says of the statistic on all of them.

A part is drawn at random without replacement, so how far a class mean in full lies from that of a
look is a matter of sampling from a finite population (Cochran 1977, chapters 2 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.statistic import class_variances, statistic

SHARES = (1 / 8, 1 / 4, 1 / 2)
LEAST_IN_CLASS = 5


@dataclass(frozen=True, eq=False)
class Looks:
    """Rows of pairs in growing parts, each of which holds the one before; the last is all of them.

    `classes` are those of the pairs.
    """

    classes: Int[Tensor, "pair"]
    parts: tuple[Int[Tensor, "_"], ...]

    @property
    def tests(self) -> int:
        """How many looks there are at which a set of nodes may be dropped."""
        return len(self.parts) - 1

    def reached(self, effects: Float[Tensor, "set pair"]) -> Int[Tensor, "set"]:
        """The last part on which all effects of a set are known, from 0; -1 where none is."""
        known = [~effects[:, part].isnan().any(1) for part in self.parts]
        return torch.stack(known).long().cumprod(0).sum(0) - 1

    def cut(self, effects: Float[Tensor, "set pair"]) -> Float[Tensor, "set pair"]:
        """The effects on the last part that is known, NaN elsewhere."""
        cut = torch.full_like(effects, torch.nan)
        for number, reached in enumerate(self.reached(effects).tolist()):
            part = self.parts[reached]
            cut[number, part] = effects[number, part]
        return cut


def plan_looks(
    classes: Int[Tensor, "pair"],
    order: Int[Tensor, "pair"],
    *,
    strata: Int[Tensor, "pair"] | None = None,
) -> Looks:
    """An eighth, a quarter and a half of the pairs and all: the first of every stratum in this
    order.

    Strata are the classes by default. A part with fewer than 5 pairs of any class is left out.
    """
    strata = classes if strata is None else strata
    parts: list[Tensor] = []
    for share in SHARES:
        first: list[Tensor] = []
        for stratum in strata.unique():
            members = order[strata[order] == stratum]
            first.append(members[: round(share * len(members))])
        part = torch.cat(first).sort().values
        if all((classes[part] == known).sum() >= LEAST_IN_CLASS for known in classes.unique()):
            parts.append(part)
    return Looks(classes, (*parts, torch.arange(len(classes))))


def all_at_once(classes: Int[Tensor, "pair"]) -> Looks:
    """One look, at all pairs: nothing is ever dropped."""
    return Looks(classes, (torch.arange(len(classes)),))


def upper_bounds(
    effects: Float[Tensor, "set pair"],
    classes: Int[Tensor, "pair"],
    *,
    attributed: Float[Tensor, "set pair"],
    chance: Float[Tensor, "set"],
) -> Float[Tensor, "set"]:
    """What the statistic on all pairs does not exceed, but with this chance, given the effects on
    some (NaN on the others).

        S_full <= S_look + t sqrt(sum_c s_c^2 (1/k_c - 1/n_c)) / C

    of k_c of the n_c pairs of each of C classes. With the signs that the class means have in full
    S_full is a plain mean and S_look no less than that mean, so the bound is one-sided. t is
    Student's at Welch's degrees of freedom. A few pairs may all miss a rare large effect and show
    no variance: s_c^2 is the larger of the variance seen and that of the attribution, which is
    known on all pairs.
    """
    import scipy.stats

    seen = class_variances(effects, classes)
    variances = torch.maximum(seen.variances, class_variances(attributed, classes).variances)
    totals = class_variances(torch.zeros(1, len(classes)), classes).counts
    terms = variances * (1 / seen.counts - 1 / totals)
    variance = terms.sum(1)
    freedom = variance.square() / (terms.square() / (seen.counts - 1).clamp(min=1)).sum(1)
    freedom = torch.where(variance > 0, freedom, 1.0).numpy()
    t = torch.from_numpy(scipy.stats.t.isf(chance.double().numpy(), freedom))
    bound = statistic(effects, classes) + t * variance.sqrt() / terms.shape[1]
    return torch.where(variance > 0, bound, statistic(effects, classes))
