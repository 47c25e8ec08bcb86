"""Results that come together: suites scored at different times as one result of one cell.

A cell is one task on one model, by one plan and one seed; its result grows suite by suite, and
nothing in it is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import cast

from sage.errors import SageError
from sage.result import ModelInfo, Result, RunInfo, StageInfo

_ROUNDING, _ROUNDING_OF_ZERO = 1e-4, 1e-6
# What two results of one cell have in common, beside their runs.
_FACTS = ("schema", "task", "model", "gate", "sections", "discovery")
# What may differ between their runs.
_OF_THE_TIME = ("started", "seconds", "forwards", "stages", "batch_size")
# What is not known of a run before it is done.
_UNKNOWN_BEFORE = ("prompts",)


def merge(results: Sequence[Result]) -> Result:
    """Results of one cell as one; SageError where they are of different cells, or have different
    suites of one name.

    A suite that stands in several is taken from the first.
    """
    merged = results[0]
    for other in results[1:]:
        if (name := difference(merged, other)) is not None:
            raise SageError(
                f"The results of {merged.task.name} on {merged.model.name} cannot be brought "
                f"together: their {name} differ. Score them into folders of their own."
            )
        merged = _grown(merged, other)
    return merged


def _grown(result: Result, other: Result) -> Result:
    """The result with the suites of another that it lacks."""
    present = {suite.id: suite.digest for suite in result.suites}
    for suite in other.suites:
        if present.get(suite.id, suite.digest) != suite.digest:
            raise SageError(
                f"Two suites of different weights are called '{suite.id}' in the results of "
                f"{result.task.name} on {result.model.name}. Score one of them under another name."
            )
    added = [suite for suite in other.suites if suite.id not in present]
    names = {suite.id for suite in added}
    return replace(
        result,
        suites=[*result.suites, *added],
        rows=[*result.rows, *(row for row in other.rows if row.suite in names)],
        moved=[*result.moved, *(latent for latent in other.moved if latent.suite in names)],
        features=result.features or other.features,
        heads=result.heads or other.heads,
        notes=list(dict.fromkeys((*result.notes, *other.notes))),
        run=_together(result.run, other.run),
    )


def without(result: Result, suites: Collection[str]) -> Result:
    """The result but some of its suites and their rows."""
    return replace(
        result,
        suites=[suite for suite in result.suites if suite.id not in suites],
        rows=[row for row in result.rows if row.suite not in suites],
        moved=[latent for latent in result.moved if latent.suite not in suites],
    )


def can_merge(first: Result, second: Result) -> bool:
    """Whether two results are of one cell."""
    return difference(first, second) is None


def difference(first: Result, second: Result) -> str | None:
    """The name of what keeps two results apart; None where nothing does.

    Measured numbers may differ as float32 sums do whose order differs, between machines or batch
    sizes: by 1e-4 of their size, or 1e-6. Names, nodes and counts must be equal.
    """
    for name in _FACTS:
        if not _alike(getattr(first, name), getattr(second, name)):
            return name
    return _run_difference(first.run, second.run)


def _alike(first: object, second: object) -> bool:
    """Whether two facts are equal, up to rounding of the floats in them."""
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=_ROUNDING, abs_tol=_ROUNDING_OF_ZERO)
    if type(first) is not type(second):
        return False
    if isinstance(first, list | tuple):
        ours, theirs = cast("list[object]", first), cast("list[object]", second)
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if is_dataclass(first) and not isinstance(first, type):
        names = [entry.name for entry in fields(first)]
        return all(_alike(getattr(first, name), getattr(second, name)) for name in names)
    return first == second


def difference_ahead(result: Result, model: ModelInfo, run: RunInfo) -> str | None:
    """The name of what will keep a result apart from that of a run not yet done; None where nothing
    is seen to."""
    if result.model != model:
        return "model"
    return _run_difference(result.run, run, without=_UNKNOWN_BEFORE)


def _run_difference(first: RunInfo, second: RunInfo, *, without: Sequence[str] = ()) -> str | None:
    for entry in fields(RunInfo):
        if entry.name in (*_OF_THE_TIME, *without):
            continue
        if entry.name == "scores":
            if _defined_apart(first.scores, second.scores):
                return "version of the scores"
        elif getattr(first, entry.name) != getattr(second, entry.name):
            return f"run's {entry.name}"
    return None


def _defined_apart(first: Mapping[str, int], second: Mapping[str, int]) -> bool:
    """Whether a score that both have is defined otherwise, or one alone says no versions."""
    shared = first.keys() & second.keys()
    return bool(first) != bool(second) or any(first[name] != second[name] for name in shared)


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
