"""Several seeds of one task and model: everything redrawn, and what that does to every score.

Method, section 5.9. Suites are paired within a seed, the mean is over each seed's own node sets,
and the interval is a t interval with R - 1 degrees of freedom: that of a single seed is over its
test prompts only, and too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sage.result import HEADLINES, MAIN, Result


class OverSeeds(NamedTuple):
    """A number over seeds: mean, standard deviation over them, t interval of the mean, seeds."""

    mean: float
    sd: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """The mean of one number per seed; one seed has neither deviation nor interval."""
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return OverSeeds(mean, math.nan, math.nan, math.nan, count)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * sd / math.sqrt(count)
    return OverSeeds(mean, sd, mean - half, mean + half, count)


def seed_values(results: Sequence[Result], suite: str, dictionary: str, metric: str) -> list[float]:
    """A summary score of a dictionary, seed by seed, where it is defined."""
    rows = [result.value(metric, suite=suite, dictionary=dictionary) for result in results]
    return [row.value for row in rows if row is not None and row.value is not None]


def seed_rows(results: Sequence[Result]) -> list[dict[str, object]]:
    """One row per task, model and suite for a table: every headline score over the seeds, the
    standard deviation of the main one, and its gain over the best control."""
    by_task: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_task.setdefault((result.task.name, result.model.name), []).append(result)
    rows: list[dict[str, object]] = []
    for (task, _), redrawn in by_task.items():
        for suite in dict.fromkeys(suite.id for result in redrawn for suite in result.suites):
            rows.append({"task": task, "suite": suite, **_scores(redrawn, suite)})
    return rows


def _scores(results: Sequence[Result], suite: str) -> dict[str, object]:
    scores: dict[str, object] = {}
    for metric, label in HEADLINES.items():
        values = seed_values(results, suite, suite, metric)
        scores[label] = str(over_seeds(values)) if values else None
        if metric == MAIN:
            scores["sd"] = over_seeds(values).sd if len(values) > 1 else None
            scores["seeds"] = len(values)
            rows = [result.value(metric, suite=suite, dictionary=suite) for result in results]
            gains = [row.gain for row in rows if row is not None and row.gain is not None]
            scores["gain"] = str(over_seeds(gains)) if gains else None
    return scores
