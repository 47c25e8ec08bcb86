"""Estimates: a number with its standard error, its 95 % interval and its n.

Intervals are percentile bootstraps over prompts (Efron and Tibshirani 1993, chapter 13). Resamples
depend on nothing but the seed and the prompts, so that dictionaries scored on the same prompts are
compared in pairs, and scores made of several numbers (a value between its floor and its ceiling)
carry one joint interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

DRAWS = 1000


class Estimate(NamedTuple):
    """A value, its standard error, the ends of its 95 % interval, and the number of prompts."""

    value: float
    stderr: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Sampled:
    """A number and its bootstrap draws.

    Draw d of two numbers from the same prompts and seed rests on the same resample.
    """

    value: float
    draws: Float[np.ndarray, "draw"]
    n: int

    def estimate(self) -> Estimate:
        """Standard deviation and 2.5 and 97.5 % quantiles of the draws that are defined.

        They are NaN where half of the draws or more are undefined.
        """
        import numpy as np

        defined = self.draws[np.isfinite(self.draws)]
        if 2 * len(defined) <= len(self.draws):
            return Estimate(self.value, float("nan"), float("nan"), float("nan"), self.n)
        low, high = np.quantile(defined, [0.025, 0.975])
        return Estimate(self.value, float(defined.std(ddof=1)), float(low), float(high), self.n)


def constant(value: float, *, n: int, draws: int = DRAWS) -> Sampled:
    """A number that no prompt moves."""
    import numpy as np

    return Sampled(value, np.full(draws, value), n)


def combine(function: Callable[..., Any], *numbers: Sampled) -> Sampled:
    """A function of numbers, applied to their values and draw by draw; it is given arrays."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        value_and_draws = [np.concatenate([[number.value], number.draws]) for number in numbers]
        combined = function(*value_and_draws)
        return Sampled(float(combined[0]), combined[1:], min(number.n for number in numbers))


def average(numbers: Sequence[Sampled], weights: Sequence[float] | None = None) -> Sampled:
    """The mean of several numbers, weighted where weights are given."""
    given = [1.0] * len(numbers) if weights is None else weights
    total = sum(given)
    shares = [weight / total for weight in given]

    def weighted_sum(*values: Any) -> Any:
        return sum(share * value for share, value in zip(shares, values, strict=True))

    return combine(weighted_sum, *numbers)


def resamples(
    n: int, *, seed: int, draws: int = DRAWS, clusters: Sequence[Hashable] | None = None
) -> Float[np.ndarray, "draw n"]:
    """How often each prompt is in each bootstrap sample.

    Prompts of one cluster (copies of one prompt) enter together. Clusters are taken in the order of
    their names, so that a prompt's share in a sample does not depend on its place.
    """
    numbers = _cluster_numbers(n, clusters)
    return _cluster_counts(1 + max(numbers), seed, draws)[:, numbers]


def bootstrap(
    columns: Float[np.ndarray, "n column"],
    statistic: Callable[[Float[np.ndarray, "draw column"]], Float[np.ndarray, "draw"]],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    clusters: Sequence[Hashable] | None = None,
) -> Sampled:
    """A function of means over prompts.

    `columns` has one number per prompt and column; `statistic` maps rows of column means to values.
    """
    import numpy as np

    numbers = np.array(_cluster_numbers(len(columns), clusters))
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    sums = np.add.reduceat(columns[order], starts, axis=0)
    sizes = np.diff(starts, append=len(columns))
    counts = _cluster_counts(len(starts), seed, draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(0, keepdims=True) / len(columns))[0])
        return Sampled(value, statistic(counts @ sums / (counts @ sizes)[:, None]), len(columns))


def mean(
    values: Float[np.ndarray, "n"], *, seed: int = 0, clusters: Sequence[Hashable] | None = None
) -> Sampled:
    """The mean over prompts."""
    return bootstrap(values[:, None], lambda means: means[:, 0], seed=seed, clusters=clusters)


def _cluster_numbers(n: int, clusters: Sequence[Hashable] | None) -> list[int]:
    """The number of each prompt's cluster."""
    if clusters is None:
        return list(range(n))
    numbers = {name: number for number, name in enumerate(sorted(set(clusters), key=repr))}
    return [numbers[name] for name in clusters]


@lru_cache(maxsize=8)
def _cluster_counts(clusters: int, seed: int, draws: int) -> Float[np.ndarray, "draw cluster"]:
    """How often each cluster is in each bootstrap sample."""
    import numpy as np

    generator = np.random.default_rng([seed, clusters])
    shares = np.full(clusters, 1 / clusters)
    counts = generator.multinomial(clusters, shares, size=draws).astype(float)
    counts.setflags(write=False)
    return counts
