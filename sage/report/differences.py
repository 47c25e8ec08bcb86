"""How far two suites of a model are apart, in pairs, and how many seeds it takes to tell.

Method, section 7. What a seed or a prompt does to both suites of a pair is no noise of their
difference: it is taken seed by seed, or, of one seed alone, prompt by prompt. It is over the
contrasts that both suites have on the same nodes, in every seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from sage.report.metrics import HEADLINES, MAIN
from sage.report.noise import PairedDifference, paired
from sage.report.ranking import (
    RankedSuite,
    RunSummary,
    SuiteSummary,
    by_model,
    over_contrasts,
    shared_contrasts,
)
from sage.report.reported_score import ReportedScore, mean_score, plain_mean
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    count_entry,
    text_entry,
)
from sage.stats import average, combine


class SuiteDifference(NamedTuple):
    """The headline score of one suite less that of another, the mean over the tasks of both.

    `over` has a t interval over seeds, or, where no task has two, one over test prompts; `redrawn`
    says how many seeds telling takes, where there are two.
    """

    suite: RankedSuite
    less: RankedSuite
    over: ReportedScore
    redrawn: PairedDifference | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        low, high = self.over.low, self.over.high
        return low is not None and high is not None and (low > 0 or high < 0)

    def __str__(self) -> str:
        value, low, high = self.over.value or 0.0, self.over.low or 0.0, self.over.high or 0.0
        return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"

    def columns(self) -> dict[str, object]:
        """It as columns of data."""
        redrawn = self.redrawn
        return {
            "model": self.suite.model,
            "suite": self.suite.label,
            "less": self.less.label,
            "tasks": self.over.tasks,
            "seeds": self.over.seeds,
            "difference": self.over.value,
            "low": self.over.low,
            "high": self.over.high,
            "told apart": self.told_apart,
            "seeds for .05": None if redrawn is None else redrawn.needed,
            "seeds for it": None if redrawn is None else redrawn.needed_here,
        }


class _Pair(NamedTuple):
    """Two suites in one run."""

    first: SuiteSummary
    second: SuiteSummary


def suite_differences(
    suites: Sequence[RankedSuite], runs: Sequence[RunSummary]
) -> list[SuiteDifference]:
    """Every two suites of a model that have a difference."""
    found: list[SuiteDifference] = []
    for of_model in by_model(suites).values():
        for suite, less in combinations(of_model, 2):
            difference = difference_of(suite, less, runs)
            if difference is not None:
                found.append(difference)
    return found


def difference_of(
    suite: RankedSuite, less: RankedSuite, runs: Sequence[RunSummary]
) -> SuiteDifference | None:
    """Over all tasks in which the two share two seeds or more, in the seeds that all of these have;
    else over the test prompts of all tasks. None where they share nothing, or results say nothing
    of single prompts."""
    done = [run for run in runs if run.source.model_and_plan == suite.model and run.gate.passed]
    by_task = _by_task(done, suite.suite, less.suite)
    redrawn = [pairs for pairs in by_task.values() if len(pairs) >= 2]
    seeds = set[int]().union(*redrawn).intersection(*redrawn)
    if len(seeds) >= 2:
        return _over_seeds(
            suite, less, [{seed: pairs[seed] for seed in sorted(seeds)} for pairs in redrawn]
        )
    return _over_prompts(suite, less, [pairs for pairs in by_task.values() if len(pairs) == 1])


def difference_table(differences: Sequence[SuiteDifference]) -> ReportTable:
    """One row for each pair."""
    heads = [
        *columns("model", "suite", "less"),
        TableColumn(
            "difference",
            f"of {HEADLINES[MAIN]}, with a 95 % t interval over seeds; of one seed over prompts",
        ),
        TableColumn("told apart", "whether the interval leaves out 0"),
        *columns("tasks", "seeds"),
        TableColumn("seeds for .05", "that tell a difference of .05, with a power of .8"),
        TableColumn("seeds for it", "that tell one as large as this"),
    ]
    table = ReportTable("Differences of two suites, in pairs", heads)
    table.rows.extend(_entries(pair) for pair in differences)
    return table


def _entries(pair: SuiteDifference) -> list[TableEntry]:
    value, _, interval = str(pair).partition(" ")
    return [
        text_entry(pair.suite.model),
        text_entry(pair.suite.label),
        text_entry(pair.less.label),
        TableEntry(value, pair.over.value, interval),
        text_entry("yes" if pair.told_apart else "no"),
        count_entry(pair.over.tasks),
        count_entry(pair.over.seeds),
        *_seeds_needed(pair.redrawn),
    ]


def _seeds_needed(redrawn: PairedDifference | None) -> list[TableEntry]:
    if redrawn is None:
        return [TableEntry("one seed", None)] * 2
    here = redrawn.needed_here
    none = TableEntry("no number", None)
    return [count_entry(redrawn.needed), none if here is None else count_entry(here)]


def _over_seeds(
    suite: RankedSuite, less: RankedSuite, tasks: Sequence[Mapping[int, _Pair]]
) -> SuiteDifference | None:
    """The mean over tasks, seed by seed."""
    common = [_common(pairs) for pairs in tasks]
    gaps = {
        seed: [
            _gap(pairs[seed], contrasts)
            for pairs, contrasts in zip(tasks, common, strict=True)
            if contrasts
        ]
        for seed in tasks[0]
    }
    means = [mean for of_seed in gaps.values() if (mean := plain_mean(of_seed)) is not None]
    if len(means) < 2:
        return None
    drawn = paired(means)
    count = sum(bool(contrasts) for contrasts in common)
    low, high = max(-1.0, drawn.over.low), min(1.0, drawn.over.high)
    over = ReportedScore(drawn.over.mean, low, high, tasks=count, seeds=drawn.over.seeds)
    return SuiteDifference(suite, less, over, drawn)


def _over_prompts(
    suite: RankedSuite, less: RankedSuite, tasks: Sequence[Mapping[int, _Pair]]
) -> SuiteDifference | None:
    """The mean over tasks of one seed each, prompt by prompt; tasks have prompts of their own."""
    told = [_by_prompt(pair, _common(pairs)) for pairs in tasks for pair in pairs.values()]
    known = [score for score in told if score is not None]
    if not known:
        return None
    return SuiteDifference(suite, less, mean_score(known, least=-1.0)._replace(tasks=len(known)))


def _by_prompt(pair: _Pair, contrasts: Sequence[str]) -> ReportedScore | None:
    """The difference in one run with its interval over prompts."""
    first, second = ([of.places[name].sampled for name in contrasts] for of in pair)
    sides = [[drawn for drawn in side if drawn is not None] for side in (first, second)]
    if not contrasts or any(len(side) < len(contrasts) for side in sides):
        return None
    over = combine(lambda one, other: one - other, *map(average, sides)).estimate()
    if not math.isfinite(over.low):
        return None
    return ReportedScore(over.value, over.low, over.high, over.stderr, over.n)


def _by_task(runs: Sequence[RunSummary], one: str, other: str) -> dict[str, dict[int, _Pair]]:
    """Task -> seed -> the two suites, where they share a contrast."""
    by_task: dict[str, dict[int, _Pair]] = {}
    for run in runs:
        first, second = run.suite(one), run.suite(other)
        if first is not None and second is not None and shared_contrasts([first, second]):
            by_task.setdefault(run.source.task, {})[run.source.seed] = _Pair(first, second)
    return by_task


def _common(pairs: Mapping[int, _Pair]) -> list[str]:
    """The contrasts that both suites have on the same nodes in every one of these seeds."""
    first, *others = (shared_contrasts(list(pair)) for pair in pairs.values())
    return [contrast for contrast in first if all(contrast in other for other in others)]


def _gap(pair: _Pair, contrasts: Sequence[str]) -> float:
    high, low = (over_contrasts(suite, contrasts).value or 0.0 for suite in pair)
    return high - low
