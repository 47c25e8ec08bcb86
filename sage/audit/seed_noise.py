"""What the seeds of scored results say: the noise of each suite, and of each difference.

Method, section 7. Suites are paired within a seed, so that what a seed does to both of them is no
noise of their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from sage.audit.reseed import DIFFERENCE, noise, seeds_needed
from sage.result import MAIN, Result
from sage.seeds import OverSeeds, over_seeds


class PairedDifference(NamedTuple):
    """A difference over seeds, and the seeds that it takes to tell one of .05, and one as large as
    this (None: it is 0)."""

    over: OverSeeds
    needed: int
    needed_here: int | None

    @property
    def told_apart(self) -> bool:
        """Whether its interval leaves out 0."""
        return self.over.low > 0 or self.over.high < 0


def noise_rows(results: Sequence[Result], metric: str = MAIN) -> list[dict[str, object]]:
    """One row for every suite of a task and model with two seeds or more: the sd of its score over
    seeds with its interval, its share of the mean, the smallest difference one run each can tell,
    and the seeds that a difference of .05 takes, unpaired."""
    rows: list[dict[str, object]] = []
    for (task, model), redrawn in _by_task(results).items():
        for suite, values in _by_suite(redrawn, metric).items():
            if len(values) < 2:
                continue
            drawn = noise(list(values.values()))
            rows.append(
                {
                    "task": task, "model": model, "suite": suite, "seeds": drawn.runs,
                    "mean": drawn.mean, "sd": drawn.sd, "sd low": drawn.low, "sd high": drawn.high,
                    "CV": drawn.cv, "one run tells": drawn.tells, "seeds for .05": drawn.needed,
                }
            )  # fmt: skip
    return rows


def difference_rows(results: Sequence[Result], metric: str = MAIN) -> list[dict[str, object]]:
    """One row for every two suites that share two seeds or more: their difference with the sd of
    the paired ones, and the seeds that a difference of .05 takes, and one as large as this."""
    rows: list[dict[str, object]] = []
    for (task, model), redrawn in _by_task(results).items():
        for (one, first), (other, second) in combinations(_by_suite(redrawn, metric).items(), 2):
            shared = sorted(first.keys() & second.keys())
            if len(shared) < 2:
                continue
            drawn = paired([first[seed] - second[seed] for seed in shared])
            rows.append(
                {
                    "task": task, "model": model, "suite": one, "less": other,
                    "seeds": drawn.over.seeds, "difference": drawn.over.mean, "sd": drawn.over.sd,
                    "told apart": drawn.told_apart, "seeds for .05": drawn.needed,
                    "seeds for it": drawn.needed_here,
                }
            )  # fmt: skip
    return rows


def paired(differences: Sequence[float]) -> PairedDifference:
    """Of two suites, from their differences seed by seed: two seeds or more."""
    over = over_seeds(differences)
    here = seeds_needed(over.sd, abs(over.mean)) if over.mean else None
    return PairedDifference(over, seeds_needed(over.sd, DIFFERENCE), here)


def _by_task(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    by_task: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_task.setdefault((result.task.name, result.model.name), []).append(result)
    return by_task


def _by_suite(results: Sequence[Result], metric: str) -> dict[str, dict[int, float]]:
    """Suite -> seed -> its score over all contrasts, where it is defined."""
    values: dict[str, dict[int, float]] = {}
    for result in results:
        for suite in result.suites:
            row = result.value(metric, suite=suite.id, dictionary=suite.id)
            if row is not None and row.value is not None:
                values.setdefault(suite.id, {})[result.run.seed] = row.value
    return values
