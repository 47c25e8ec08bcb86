"""Scores as a report shows them: a number with its interval and n, or why it is undefined.

The mean of several takes the tasks as given and their prompts as independent draws: its standard
error is the root of the summed squares of theirs, over their number. It says nothing of other tasks
or of other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sage.result import Row

# Half the width of a 95 % interval, in standard errors.
HALF_WIDTH = 1.959964


class ReportedScore(NamedTuple):
    """A score with the ends of its 95 % interval; `why` says why there is no value.

    `tasks` is how many tasks it is a mean over, `n` the least number of prompts of one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    stderr: float | None = None
    n: int = 0
    why: str = ""
    tasks: int = 1

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        return f"{self.value:.2f}" if self.interval is None else f"{self.value:.2f} {self.interval}"

    @property
    def interval(self) -> str | None:
        """`[0.61, 0.67]`, where there is one."""
        if self.low is None or self.high is None:
            return None
        return f"[{self.low:.2f}, {self.high:.2f}]"

    @property
    def status(self) -> str:
        """`ok`, or undefined and why."""
        return "ok" if self.value is not None else f"undefined: {self.why}"

    def columns(self) -> dict[str, object]:
        """The score as columns of data."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "stderr": self.stderr,
            "n": self.n,
            "status": self.status,
        }


def score_in(row: Row) -> ReportedScore:
    """The score in a row of a result."""
    if row.value is None:
        return ReportedScore(None, n=row.n, why=row.status.removeprefix("undefined: "))
    return ReportedScore(row.value, row.low, row.high, row.stderr, row.n)


def mean_score(scores: Sequence[ReportedScore]) -> ReportedScore:
    """The mean of the defined ones, cut to [0, 1] like its parts.

    One alone keeps its own interval; without the standard error of each there is none.
    """
    defined = [(score.value, score) for score in scores if score.value is not None]
    if not defined:
        return ReportedScore(None, why=_reasons(scores), tasks=0)
    if len(defined) == 1:
        return defined[0][1]
    value = sum(number for number, _ in defined) / len(defined)
    n = min(score.n for _, score in defined)
    errors = [score.stderr for _, score in defined if score.stderr is not None]
    if len(errors) < len(defined):
        return ReportedScore(value, n=n, tasks=len(defined))
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(defined)
    low, high = max(0.0, value - HALF_WIDTH * stderr), min(1.0, value + HALF_WIDTH * stderr)
    return ReportedScore(value, min(low, value), max(high, value), stderr, n, tasks=len(defined))


def mean_over_tasks(by_task: Iterable[Sequence[ReportedScore]]) -> ReportedScore:
    """The mean over tasks of each task's mean over seeds."""
    return mean_score([mean_score(seeds)._replace(tasks=1) for seeds in by_task])


def plain_mean(values: Iterable[float]) -> float | None:
    """The mean of numbers; None of nothing."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None


def _reasons(scores: Sequence[ReportedScore]) -> str:
    return "; ".join(dict.fromkeys(score.why for score in scores)) or "no task was scored"
