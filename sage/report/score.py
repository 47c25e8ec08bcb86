"""Scores to show: a number with its 95 % interval and n, or why it is undefined, and the mean of
several.

A mean takes the tasks as given and their prompts as independent draws: its standard error is the
root of the summed squares of theirs, over their number. It says nothing of other tasks or of other
seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sage.result import Row

WIDTH = 1.959964


class Score(NamedTuple):
    """`why` says why there is no value; `tasks` is how many tasks it is a mean over, n the least
    number of prompts of one."""

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
        return (
            None if self.low is None or self.high is None else f"[{self.low:.2f}, {self.high:.2f}]"
        )


def score_of(row: Row | None, *, missing: str = "not in the result") -> Score:
    """The score in a row."""
    if row is None:
        return Score(None, why=missing)
    if row.value is None:
        return Score(None, n=row.n, why=row.status.removeprefix("undefined: "))
    return Score(row.value, row.low, row.high, row.stderr, row.n)


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of the defined ones, cut to [0, 1] like its parts; one alone keeps its own interval."""
    defined = [(score.value, score) for score in scores if score.value is not None]
    if not defined:
        return Score(None, why=_reasons(scores), tasks=0)
    if len(defined) == 1:
        return defined[0][1]
    value = sum(number for number, _ in defined) / len(defined)
    n = min(score.n for _, score in defined)
    errors = [score.stderr for _, score in defined if score.stderr is not None]
    if len(errors) < len(defined):
        return Score(value, n=n, tasks=len(defined))
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(defined)
    low, high = max(0.0, value - WIDTH * stderr), min(1.0, value + WIDTH * stderr)
    return Score(value, min(low, value), max(high, value), stderr, n, tasks=len(defined))


def mean_over_tasks(by_task: Iterable[Sequence[Score]]) -> Score:
    """The mean over tasks of each task's mean over seeds."""
    return mean_score([mean_score(seeds)._replace(tasks=1) for seeds in by_task])


def mean_number(values: Iterable[float]) -> float | None:
    """The plain mean; None of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else None


def _reasons(scores: Sequence[Score]) -> str:
    return "; ".join(dict.fromkeys(score.why for score in scores)) or "no task was scored"
