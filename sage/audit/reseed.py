"""Reseed: how much of a score is the draw, and how many seeds a difference needs.

Method, section 7. The sd over seeds with its chi-square interval, its share of the mean, the
smallest difference that one run each, or R runs each, can tell, and the seeds that a difference
takes (two-sided 5 %, power .8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sage.audit.cell import Cell
from sage.audit.records import Measured

MOST_CV = 0.05
# Two runs differ by more than so many sd in one case of twenty: 1.96 sqrt 2.
ONE_RUN = 2.77
# (1.96 + .84)^2: two-sided 5 %, power .8.
POWER = 7.85
DIFFERENCE = 0.05
# Below so many standard errors of it a mean is not told from 0, and has no share to give.
LEAST_MEAN = 3.0


class Noise(NamedTuple):
    """Mean and sd of one number over runs, the sd's 95 % interval, and sd / |mean|, None where the
    mean is not told from 0."""

    mean: float
    sd: float
    low: float
    high: float
    cv: float | None
    runs: int

    @property
    def tells(self) -> float:
        """The smallest difference that one run each tells apart."""
        return ONE_RUN * self.sd

    def runs_tell(self, runs: int) -> float:
        """The smallest difference that so many runs each tell apart: t s sqrt(2 / R)."""
        from scipy.stats import t

        return float(t.ppf(0.975, 2 * (runs - 1))) * self.sd * math.sqrt(2 / runs)

    @property
    def needed(self) -> int:
        """Runs each that tell a difference of .05, unpaired: the variance of a difference is
        twice that of a run."""
        return seeds_needed(math.sqrt(2) * self.sd, DIFFERENCE)


def noise(values: Sequence[float]) -> Noise:
    """Over two runs or more."""
    from scipy.stats import chi2

    runs = len(values)
    mean = math.fsum(values) / runs
    freedom = runs - 1
    squares = math.fsum((value - mean) ** 2 for value in values)
    sd = math.sqrt(squares / freedom)
    low = math.sqrt(squares / float(chi2.ppf(0.975, freedom)))
    high = math.sqrt(squares / float(chi2.ppf(0.025, freedom)))
    told = abs(mean) >= LEAST_MEAN * sd / math.sqrt(runs) and mean != 0
    return Noise(mean, sd, low, high, sd / abs(mean) if told else None, runs)


def seeds_needed(sd_of_difference: float, difference: float) -> int:
    """Paired seeds that tell a difference of this size: 7.85 s_d^2 / d^2, at least 2."""
    return max(2, math.ceil(POWER * sd_of_difference**2 / difference**2))


def reseeded(records: Sequence[Measured], metric: str) -> dict[str, Noise]:
    """Where -> the noise of a metric of an SAE of middle quality, all but which is redrawn."""
    values: dict[str, list[float]] = {}
    for record in records:
        if record.lens == "reseed" and math.isfinite(record.score(metric)):
            values.setdefault(record.where, []).append(record.score(metric))
    return {where: noise(drawn) for where, drawn in values.items() if len(drawn) > 1}


def judge_reseed(noises: Mapping[str, Noise], metric: str) -> list[Cell]:
    """Passed where the sd is at most a twentieth of the mean."""
    cells: list[Cell] = []
    for where, drawn in noises.items():
        share = "undefined" if drawn.cv is None else f"{100 * drawn.cv:.1f} %"
        cells.append(
            Cell(
                metric, "reseed", where,
                passed=None if drawn.cv is None else drawn.cv <= MOST_CV,
                said=f"sd {drawn.sd:.3f} [{drawn.low:.3f}, {drawn.high:.3f}], CV {share}; one run "
                f"tells {drawn.tells:.3f}; {drawn.needed} seeds for .05",
                figures={
                    "mean": drawn.mean, "sd": drawn.sd, "sd low": drawn.low, "sd high": drawn.high,
                    "CV": drawn.cv, "one run tells": drawn.tells,
                    "seeds for .05": float(drawn.needed), "seeds": float(drawn.runs),
                },
            )
        )  # fmt: skip
    return cells
