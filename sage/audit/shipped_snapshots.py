"""Snapshots and soft-frozen nulls of a shipped model's SAEs, scored on its tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from sage.audit.metrics import audited
from sage.audit.records import Measured
from sage.cells import cell_in, holds_today
from sage.models.load import load_model
from sage.result import Result, Row
from sage.run import PLANS
from sage.saes.releases import load_suites
from sage.store.store import user_store
from sage.task.catalog import load_task

MODEL = "tiny-gpt2"
# Of one SAE a layer: the step of training it was taken at, and how often it was trained anew.
SNAPSHOTS: Mapping[str, float] = {
    "topk8-step0": 0.0, "topk8-early": 30.0, "topk8-middle": 120.0, "topk8-late": 480.0,
    "topk8": 1000.0,
}  # fmt: skip
ROLES: Mapping[str, str] = {
    "topk8-seed-2": "finished", "topk8-seed-3": "finished",
    "topk8-soft-frozen-1": "soft-frozen", "topk8-soft-frozen-2": "soft-frozen",
    "topk8-soft-frozen-3": "soft-frozen",
    "topk4": "trained", "topk16": "trained", "relu": "trained",
}  # fmt: skip


def score_snapshots(task: str, folder: Path) -> list[Measured]:
    """Every suite on one task by the quick plan; what stands in the folder is not scored again."""
    model = load_model(MODEL)
    names = (*SNAPSHOTS, *ROLES)
    anatomy = model.anatomy
    suites = load_suites(
        [f"{MODEL}/{name}" for name in names], d_model=anatomy.d_model, hooks=anatomy.hooks
    )
    cell = cell_in(folder, model, load_task(task), PLANS["quick"])
    again = not holds_today(cell.folder)
    result = cell.score(suites, store=user_store(), again=again).result
    return [_measured(result, name, f"{task} on {MODEL}") for name in names]


def _measured(result: Result, name: str, where: str) -> Measured:
    suite = f"{MODEL}/{name}"
    rows = {metric: list(_rows(result, suite, suite, metric)) for metric in audited()}
    told = {metric: row[0] for metric, row in rows.items() if len(row) == 1}
    return Measured(
        "discriminability",
        where,
        name,
        ROLES.get(name, "snapshot"),
        {metric: _mean([row.value for row in listed]) for metric, listed in rows.items()},
        at=SNAPSHOTS.get(name),
        low={metric: row.low for metric, row in told.items() if row.low is not None},
        high={metric: row.high for metric, row in told.items() if row.high is not None},
    )


def scores_of(result: Result, suite: str, dictionary: str) -> dict[str, float | None]:
    """Every audited metric of a dictionary on a suite's nodes, the mean over contrasts."""
    return {
        metric: _mean([row.value for row in _rows(result, suite, dictionary, metric)])
        for metric in audited()
    }


def _rows(result: Result, suite: str, dictionary: str, metric: str) -> Iterator[Row]:
    """The summary over contrasts where there is one, else the row of every contrast."""
    summary = result.value(metric, suite=suite, dictionary=dictionary)
    if summary is not None:
        yield summary
        return
    for row in result.rows:
        at_union = row.section == row.contrast and (metric in _BESIDE or row.headline)
        if at_union and (row.suite, row.dictionary, row.metric) == (suite, dictionary, metric):
            yield row


_BESIDE = ("isolation", "decoding")


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
