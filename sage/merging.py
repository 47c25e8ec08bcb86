"""Results that come together: suites scored at different times as one result of one cell.

A cell is one task on one model, by one plan and one seed; its result grows suite by suite, and
nothing in it is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from sage.errors import SageError
from sage.result import Result, RunInfo, StageInfo

# What two results of one cell must have in common: beside suites, rows, and how long it took.
_FACTS = ("task", "model", "gate", "sections", "discovery", "schema")
_OF_THE_RUN = ("started", "seconds", "forwards", "stages", "batch_size")


def merge(results: Sequence[Result]) -> Result:
    """Results of one cell as one; SageError where they are of different cells.

    A suite that stands in several is taken from the first.
    """
    first, *rest = results
    for other in rest:
        if (name := _difference(first, other)) is not None:
            raise SageError(
                f"The results of {first.task.name} on {first.model.name} cannot be brought "
                f"together: their {name} differ. Score them into folders of their own."
            )
    merged = first
    for other in rest:
        present = {suite.id for suite in merged.suites}
        added = [suite for suite in other.suites if suite.id not in present]
        names = {suite.id for suite in added}
        merged = replace(
            merged,
            suites=[*merged.suites, *added],
            rows=[*merged.rows, *(row for row in other.rows if row.suite in names)],
            features=merged.features or other.features,
            notes=list(dict.fromkeys((*merged.notes, *other.notes))),
            run=_together(merged.run, other.run),
        )
    return merged


def can_merge(first: Result, second: Result) -> bool:
    """Whether two results are of one cell."""
    return _difference(first, second) is None


def _difference(first: Result, second: Result) -> str | None:
    """The name of what keeps two results apart; None where nothing does."""
    for name in _FACTS:
        if getattr(first, name) != getattr(second, name):
            return name
    for entry in fields(RunInfo):
        if entry.name in _OF_THE_RUN:
            continue
        if getattr(first.run, entry.name) != getattr(second.run, entry.name):
            return f"run's {entry.name}"
    return None


def _together(first: RunInfo, second: RunInfo) -> RunInfo:
    """Both runs' time; the start of the first."""
    return replace(
        first,
        seconds=first.seconds + second.seconds,
        forwards=first.forwards + second.forwards,
        stages=total_stages([first, second]),
    )


def total_stages(runs: Sequence[RunInfo]) -> list[StageInfo]:
    """What each stage took over several runs."""
    stages: dict[str, StageInfo] = {}
    for run in runs:
        for stage in run.stages:
            before = stages.get(stage.stage, StageInfo(stage.stage, 0.0, 0.0))
            seconds, forwards = before.seconds + stage.seconds, before.forwards + stage.forwards
            stages[stage.stage] = StageInfo(stage.stage, seconds, forwards)
    return list(stages.values())
