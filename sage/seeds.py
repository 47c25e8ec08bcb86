"""Several seeds of one task and model: everything redrawn, and what that does to every score.

Method, section 5.9. Suites are paired within a seed, the mean is over each seed's own node sets and
contrasts, and the interval is a t interval with R - 1 degrees of freedom: that of a single seed is
over its test prompts only, and too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sage.result import HEADLINES, MAIN, Result, Row


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


def seed_rows(results: Sequence[Result]) -> list[dict[str, object]]:
    """One row per task, model and suite for a table: the mean of every headline score over the
    seeds, the interval and standard deviation of the main one, and its gain over the best control.

    The interval is a t interval over the seeds; where there is one seed alone (`seeds` is 1) it is
    that seed's own, over its test prompts.
    """
    by_task: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_task.setdefault((result.task.name, result.model.name), []).append(result)
    rows: list[dict[str, object]] = []
    for (task, _), redrawn in by_task.items():
        for suite in dict.fromkeys(suite.id for result in redrawn for suite in result.suites):
            rows.append({"task": task, "suite": suite, **_scores(redrawn, suite)})
    return rows


def contrasts_by_seed(results: Sequence[Result], suite: str) -> dict[int, tuple[str, ...]]:
    """The contrasts that a suite's headline score is a mean over, by seed."""
    counted: dict[int, tuple[str, ...]] = {}
    for result in results:
        if suite not in (info.id for info in result.suites):
            continue
        lost = result.lost_contrasts(suite)
        names = dict.fromkeys(section.contrast for section in result.sections)
        counted[result.run.seed] = tuple(name for name in names if name not in lost)
    return counted


def _scores(results: Sequence[Result], suite: str) -> dict[str, object]:
    """Means over seeds; of one seed alone its own interval, over test prompts."""
    row: dict[str, object] = {}
    for metric, label in HEADLINES.items():
        rows = _defined(results, suite, metric)
        row[label] = over_seeds([value for value, _ in rows]).mean if rows else None
        if metric != MAIN:
            continue
        main = [found for _, found in rows]
        gains = [(found.gain, found) for found in main if found.gain is not None]
        one = main[0] if len(main) == 1 else None
        row |= _spread("", rows, (one and one.low, one and one.high), least=0.0)
        row["sd"] = over_seeds([value for value, _ in rows]).sd if len(rows) > 1 else None
        row["seeds"] = len(rows)
        row["gain"] = over_seeds([gain for gain, _ in gains]).mean if gains else None
        row |= _spread("gain ", gains, (one and one.gain_low, one and one.gain_high), least=-1.0)
    return row


def _defined(results: Sequence[Result], suite: str, metric: str) -> list[tuple[float, Row]]:
    rows = [result.value(metric, suite=suite, dictionary=suite) for result in results]
    return [(row.value, row) for row in rows if row is not None and row.value is not None]


def _spread(
    of: str,
    values: Sequence[tuple[float, Row]],
    alone: tuple[float | None, float | None],
    *,
    least: float,
) -> dict[str, object]:
    """The ends of a t interval, cut to [`least`, 1] like the numbers it is of; those of the one
    seed there is, where there is one alone."""
    if len(values) > 1:
        told = over_seeds([value for value, _ in values])
        alone = (max(least, told.low), min(1.0, told.high))
    return {f"{of}low": alone[0], f"{of}high": alone[1]}
