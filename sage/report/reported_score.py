"""Scores as a report shows them: a number with its interval and n, or why it is undefined.

A mean over tasks takes the tasks as given. Where every task was redrawn with the same seeds, its
interval is a t interval over them (method, section 5.9). Else the prompts of the tasks are taken as
independent draws: the standard error is the root of the summed squares of theirs, over their
number, and the interval is over test prompts only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sage.result import Row
from sage.seeds import over_seeds

# Half the width of a 95 % interval, in standard errors.
HALF_WIDTH = 1.959964


class ReportedScore(NamedTuple):
    """A score with the ends of its 95 % interval; `why` says why there is no value.

    `tasks` and `contrasts` are how many it is a mean over, `n` the least number of prompts of one.
    The interval is over the seeds where there are several, else over test prompts only.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    stderr: float | None = None
    n: int = 0
    why: str = ""
    tasks: int = 1
    contrasts: int = 1
    seeds: int = 1

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
            "contrasts": self.contrasts,
            "seeds": self.seeds,
            "status": self.status,
        }


class ScoreLine(NamedTuple):
    """A score with what stands beside it: its best control, the gain over that with its paired
    interval, and the supervised features. `control` names the best control."""

    score: ReportedScore
    best: ReportedScore
    gain: ReportedScore
    supervised: ReportedScore
    control: str = ""

    def columns(self) -> dict[str, object]:
        """The line as columns of data."""
        return {
            **self.score.columns(),
            "best control": self.best.value,
            "gain": self.gain.value,
            "gain low": self.gain.low,
            "gain high": self.gain.high,
            "supervised": self.supervised.value,
        }


def score_in(row: Row) -> ReportedScore:
    """The score in a row of a result."""
    contrasts = 1 if row.contrasts is None else row.contrasts
    if row.value is None:
        why = row.status.removeprefix("undefined: ")
        return ReportedScore(None, n=row.n, why=why, contrasts=contrasts)
    return ReportedScore(row.value, row.low, row.high, row.stderr, row.n, contrasts=contrasts)


def best_in(row: Row) -> ReportedScore:
    """What the best control of a row scores; it has no interval of its own there."""
    if row.best_control is None or row.best_control.value is None:
        return ReportedScore(None, n=row.n, why="no control was measured")
    contrasts = 1 if row.contrasts is None else row.contrasts
    return ReportedScore(row.best_control.value, n=row.n, contrasts=contrasts)


def gain_in(row: Row) -> ReportedScore:
    """The gain in a row over its best control; the standard error is that of its interval."""
    if row.gain is None:
        return ReportedScore(None, n=row.n, why="there is no control to gain over")
    low, high = row.gain_low, row.gain_high
    stderr = None if low is None or high is None else (high - low) / (2 * HALF_WIDTH)
    contrasts = 1 if row.contrasts is None else row.contrasts
    return ReportedScore(row.gain, low, high, stderr, row.n, contrasts=contrasts)


def line_in(row: Row, supervised: ReportedScore) -> ScoreLine:
    """A row's score with all that stands beside it."""
    name = "" if row.best_control is None else row.best_control.name
    return ScoreLine(score_in(row), best_in(row), gain_in(row), supervised, name)


def no_line(why: str) -> ScoreLine:
    """Where a score was not measured."""
    nothing = ReportedScore(None, why=why, tasks=0, contrasts=0)
    return ScoreLine(nothing, nothing, nothing, nothing)


def mean_score(scores: Sequence[ReportedScore], *, least: float = 0.0) -> ReportedScore:
    """The mean of the defined ones, its interval cut to [`least`, 1] like its parts.

    One alone keeps its own interval; without the standard error of each there is none.
    """
    defined = [(score.value, score) for score in scores if score.value is not None]
    if not defined:
        return ReportedScore(None, why=_reasons(scores), tasks=0, contrasts=0)
    if len(defined) == 1:
        return defined[0][1]
    value = sum(number for number, _ in defined) / len(defined)
    mean = ReportedScore(
        value,
        n=min(score.n for _, score in defined),
        tasks=len(defined),
        contrasts=sum(score.contrasts for _, score in defined),
    )
    errors = [score.stderr for _, score in defined if score.stderr is not None]
    if len(errors) < len(defined):
        return mean
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(defined)
    low, high = max(least, value - HALF_WIDTH * stderr), min(1.0, value + HALF_WIDTH * stderr)
    return mean._replace(low=min(low, value), high=max(high, value), stderr=stderr)


def mean_over_tasks(
    by_task: Iterable[Mapping[int, ReportedScore]], *, least: float = 0.0
) -> ReportedScore:
    """The mean over tasks of each task's scores by seed.

    Where all tasks are defined with the same seeds, two or more, the interval is over these seeds.
    """
    tasks = [dict(task) for task in by_task]
    defined = [{s: x for s, x in task.items() if x.value is not None} for task in tasks]
    kept = [task for task in defined if task]
    means = [_over_prompts(list(task.values()), least=least) for task in kept]
    if not kept:
        return mean_score([score for task in tasks for score in task.values()])
    mean = mean_score(means, least=least)._replace(tasks=len(kept))
    shared = sorted(set.intersection(*(set(task) for task in kept)))
    if len(shared) < 2 or any(set(task) != set(shared) for task in kept):
        return mean
    values = [[task[seed].value or 0.0 for task in kept] for seed in shared]
    seeds = over_seeds([sum(of_seed) / len(of_seed) for of_seed in values])
    return mean._replace(
        low=min(seeds.mean, max(least, seeds.low)),
        high=max(seeds.mean, min(1.0, seeds.high)),
        stderr=seeds.sd / math.sqrt(len(shared)),
        seeds=len(shared),
    )


def mean_line(by_task: Iterable[Mapping[int, ScoreLine]]) -> ScoreLine:
    """A score over tasks and seeds with all that stands beside it, each a mean of its own."""
    tasks = [dict(task) for task in by_task]

    def mean(part: str, least: float = 0.0) -> ReportedScore:
        parts = [{seed: getattr(line, part) for seed, line in task.items()} for task in tasks]
        return mean_over_tasks(parts, least=least)

    names = {line.control for task in tasks for line in task.values() if line.control}
    control = names.pop() if len(names) == 1 else ""
    return ScoreLine(mean("score"), mean("best"), mean("gain", -1.0), mean("supervised"), control)


def covers(scores: Iterable[ReportedScore]) -> str:
    """What the intervals of these scores are over."""
    seeds = sorted({score.seeds for score in scores if score.interval is not None})
    if not seeds or seeds == [1]:
        return "over test prompts only"
    if 1 in seeds:
        return "over seeds where every task has the same ones, else over test prompts only"
    return f"t intervals over {' or '.join(map(str, seeds))} seeds"


def plain_mean(values: Iterable[float]) -> float | None:
    """The mean of numbers; None of nothing."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None


def _over_prompts(scores: Sequence[ReportedScore], *, least: float) -> ReportedScore:
    """One task's mean over seeds, as one task."""
    mean = mean_score(scores, least=least)
    contrasts = max((score.contrasts for score in scores), default=0)
    return mean._replace(tasks=1, contrasts=contrasts)


def _reasons(scores: Sequence[ReportedScore]) -> str:
    return "; ".join(dict.fromkeys(score.why for score in scores)) or "no task was scored"
