"""How much of a score is the draw: the noise of each suite over seeds, and of differences.

Method, section 7. A suite's mean is over the contrasts that it has in every seed, so that no draw
changes what it is a mean of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sage.audit.reseed import DIFFERENCE, noise, seeds_needed
from sage.report.ranking import RunSummary, SuiteSummary, over_contrasts
from sage.seeds import OverSeeds, over_seeds


class PairedDifference(NamedTuple):
    """A difference over seeds, and the seeds that it takes to tell one of .05, and one as large as
    this (None: it is 0)."""

    over: OverSeeds
    needed: int
    needed_here: int | None


def paired(differences: Sequence[float]) -> PairedDifference:
    """Of two suites, from their differences seed by seed: two seeds or more."""
    over = over_seeds(differences)
    here = seeds_needed(over.sd, abs(over.mean)) if over.mean else None
    return PairedDifference(over, seeds_needed(over.sd, DIFFERENCE), here)


def noise_rows(runs: Sequence[RunSummary]) -> list[dict[str, object]]:
    """One row for every suite of a task and model with two seeds or more: the sd of its score over
    seeds with its interval, its share of the mean, the smallest difference one run each can tell,
    and the seeds that a difference of .05 takes, unpaired."""
    rows: list[dict[str, object]] = []
    for (task, model), redrawn in _by_task(runs).items():
        for suite in dict.fromkeys(suite.info.id for run in redrawn for suite in run.suites):
            values = _over_common(redrawn, suite)
            if len(values) < 2:
                continue
            drawn = noise(values)
            rows.append(
                {
                    "task": task, "model": model, "suite": suite, "seeds": drawn.runs,
                    "mean": drawn.mean, "sd": drawn.sd, "sd low": drawn.low, "sd high": drawn.high,
                    "CV": drawn.cv, "one run tells": drawn.tells, "seeds for .05": drawn.needed,
                }
            )  # fmt: skip
    return rows


def _by_task(runs: Sequence[RunSummary]) -> dict[tuple[str, str], list[RunSummary]]:
    by_task: dict[tuple[str, str], list[RunSummary]] = {}
    for run in runs:
        if run.gate.passed:
            source = run.source
            by_task.setdefault((source.task, source.model_and_plan), []).append(run)
    return by_task


def _over_common(runs: Sequence[RunSummary], name: str) -> list[float]:
    """A suite's score in every seed that has one, over the contrasts that all of these have."""
    suites = [suite for run in runs if (suite := run.suite(name)) is not None and suite.places]
    common = _common(suites)
    values = [over_contrasts(suite, common).value for suite in suites] if common else []
    return [value for value in values if value is not None]


def _common(suites: Sequence[SuiteSummary]) -> list[str]:
    if not suites:
        return []
    first, *others = suites
    return [name for name in first.places if all(name in other.places for other in others)]
