"""How far two suites of a model are apart, seed by seed, and how many seeds it takes to tell.

Method, section 7. What a seed redraws moves both suites of a pair, so it is no noise of their
difference; it is over the contrasts that both have on the same nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from sage.audit.seed_noise import PairedDifference, paired
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import (
    RankedSuite,
    RunSummary,
    by_model,
    over_contrasts,
    shared_contrasts,
)
from sage.report.reported_score import plain_mean
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    count_entry,
    text_entry,
)


class SuiteDifference(NamedTuple):
    """The headline score of one suite less that of another, the mean over the tasks of both."""

    suite: RankedSuite
    less: RankedSuite
    tasks: int
    difference: PairedDifference


def suite_differences(
    suites: Sequence[RankedSuite], runs: Sequence[RunSummary]
) -> list[SuiteDifference]:
    """Every two suites of a model that share two seeds or more of a task: over all such tasks, in
    the seeds that all of these have."""
    found: list[SuiteDifference] = []
    for model, of_model in by_model(suites).items():
        done = [run for run in runs if run.source.model_and_plan == model and run.gate.passed]
        for suite, less in combinations(of_model, 2):
            by_task = _by_task(done, suite.suite, less.suite)
            redrawn = [of_task for of_task in by_task.values() if len(of_task) >= 2]
            seeds = set[int]().union(*redrawn).intersection(*redrawn)
            if len(seeds) >= 2:
                means = [plain_mean(of_task[seed] for of_task in redrawn) for seed in seeds]
                difference = paired([mean for mean in means if mean is not None])
                found.append(SuiteDifference(suite, less, len(redrawn), difference))
    return found


def difference_table(differences: Sequence[SuiteDifference]) -> ReportTable:
    """One row for each pair."""
    heads = [
        *columns("model", "suite", "less", "tasks", "seeds"),
        TableColumn("difference", f"of {HEADLINES[MAIN]}, with a 95 % t interval over seeds"),
        TableColumn("told apart", "whether the interval leaves out 0"),
        TableColumn("seeds for .05", "that tell a difference of .05, with a power of .8"),
        TableColumn("seeds for it", "that tell one as large as this"),
    ]
    table = ReportTable("Differences of two suites, paired by seed", heads)
    table.rows.extend(_entries(pair) for pair in differences)
    return table


def _entries(pair: SuiteDifference) -> list[TableEntry]:
    over, needed, here = pair.difference
    interval = f"[{over.low:+.2f}, {over.high:+.2f}]"
    return [
        text_entry(pair.suite.model),
        text_entry(pair.suite.label),
        text_entry(pair.less.label),
        count_entry(pair.tasks),
        count_entry(over.seeds),
        TableEntry(f"{over.mean:+.2f}", over.mean, interval),
        text_entry("yes" if pair.difference.told_apart else "no"),
        count_entry(needed),
        TableEntry("no number", None) if here is None else count_entry(here),
    ]


def _by_task(runs: Sequence[RunSummary], one: str, other: str) -> dict[str, dict[int, float]]:
    """Task -> seed -> the difference of two suites."""
    by_task: dict[str, dict[int, float]] = {}
    for run in runs:
        first, second = run.suite(one), run.suite(other)
        if first is None or second is None:
            continue
        shared = shared_contrasts([first, second])
        if not shared:
            continue
        high, low = (over_contrasts(suite, shared).value for suite in (first, second))
        if high is not None and low is not None:
            by_task.setdefault(run.source.task, {})[run.source.seed] = high - low
    return by_task
