"""What the seeds of scored results say: the noise of each suite, and of each difference.

Method, section 7. Suites are paired within a seed, so that what a seed does to both of them is no
noise of their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from sage.audit.reseed import DIFFERENCE, noise, seeds_needed
from sage.result import MAIN, Result
from sage.seeds import over_seeds


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
            differences = [first[seed] - second[seed] for seed in shared]
            drawn, told = noise(differences), over_seeds(differences)
            here = seeds_needed(drawn.sd, abs(drawn.mean)) if drawn.mean else None
            rows.append(
                {
                    "task": task, "model": model, "suite": one, "less": other,
                    "seeds": len(shared), "difference": drawn.mean, "sd": drawn.sd,
                    "told apart": told.low > 0 or told.high < 0,
                    "seeds for .05": seeds_needed(drawn.sd, DIFFERENCE), "seeds for it": here,
                }
            )  # fmt: skip
    return rows


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
