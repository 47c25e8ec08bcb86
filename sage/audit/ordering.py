"""Does a metric order dictionaries as their quality does?

Method, section 7: the share of pairs ordered rightly, of those whose quality differs by more than
.1; Spearman and Kendall beside it. Intervals are bootstraps over dictionaries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LEAST_APART = 0.1
DRAWS = 500

Array = Float[np.ndarray, "dictionary"]


class Share(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Ordering(NamedTuple):
    """How a metric orders `n` dictionaries."""

    rightly: Share
    spearman: Share
    kendall: Share
    n: int


def ordered_rightly(quality: Array, score: Array) -> float:
    """The share of pairs, of those whose quality differs by more than .1, that the score orders as
    quality does; ties count half. NaN where there is no such pair."""
    better = quality[:, None] - quality[None, :] > LEAST_APART
    if not better.any():
        return math.nan
    ahead = score[:, None] - score[None, :]
    rightly = (ahead > 0) + 0.5 * (ahead == 0)
    return float(rightly[better].mean())


def ordering(quality: Sequence[float], score: Sequence[float], *, seed: int = 0) -> Ordering:
    """All three figures, over the dictionaries whose score is defined; NaN where there are none."""
    both = np.array([quality, score], float).T.reshape(-1, 2)
    both = both[np.isfinite(both).all(1)]
    if not len(both):
        nothing = Share(math.nan, math.nan, math.nan)
        return Ordering(nothing, nothing, nothing, 0)
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(both), size=len(both)) for _ in range(DRAWS)]

    def share(figure: Callable[[Array, Array], float]) -> Share:
        draws = [figure(*both[rows].T) for rows in drawn]
        finite = [value for value in draws if math.isfinite(value)] or [math.nan]
        low, high = np.quantile(finite, (0.025, 0.975))
        return Share(figure(*both.T), float(low), float(high))

    return Ordering(share(ordered_rightly), share(_spearman), share(_kendall), len(both))


def kendall(order: Sequence[float], score: Sequence[float]) -> float:
    """Kendall's tau, corrected for ties; 0 where either is constant."""
    value = _kendall(np.array(order, float), np.array(score, float))
    return value if math.isfinite(value) else 0.0


def _spearman(quality: Array, score: Array) -> float:
    from scipy.stats import rankdata

    if np.ptp(quality) == 0 or np.ptp(score) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(quality), rankdata(score))[0, 1])


def _kendall(quality: Array, score: Array) -> float:
    """Tau-b: the mean product of the signs of all differences, over those that are no ties."""
    first, second = (np.sign(each[:, None] - each[None, :]) for each in (quality, score))
    untied = float(np.abs(first).sum() * np.abs(second).sum()) ** 0.5
    return float((first * second).sum()) / untied if untied else math.nan
