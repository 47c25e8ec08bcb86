"""The leaderboard: one row for each suite of every model, to be filtered and sorted.

Suites stand in the order of the report's ranking, model by model: models are never ranked, and a
suite that was scored on other nodes or tasks than those compared says so (method, section 5.9).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sage.report.html import write_page
from sage.report.links import page_links
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite, RunSummary, over_tasks, summarise_run
from sage.report.reported_score import covers
from sage.report.scored_run import read_run
from sage.report.sources import find_sources
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    columns,
    count_entry,
    number_entry,
    score_entry,
    text_entry,
)

PAGE = "leaderboard.html"
_HEADS = (
    *columns("model", "suite"),
    TableColumn(f"{HEADLINES[MAIN]} (T3)", "interpretable control, mean over tasks"),
    TableColumn("gain", "over the best control, in pairs"),
    TableColumn("best control", "the dictionary without features that is best on fit"),
    TableColumn("supervised", "what features fitted to the labels score"),
    TableColumn("reach", "share of the sections' summed effect at nodes that the suite reads"),
    TableColumn("tasks", "that have the score"),
    TableColumn("L0", "latents active on a token, mean over SAEs and tasks"),
    *columns("architecture"),
)


def write_leaderboard(
    out: Path,
    suites: Sequence[RankedSuite],
    runs: Sequence[RunSummary],
    *,
    left_out: str | None = None,
) -> Path:
    """Write leaderboard.html, with a sentence on results that were left out."""
    lines = [suite.line(MAIN) for suite in suites]
    return write_page(
        out / PAGE,
        PAGE,
        title="Leaderboard",
        links=page_links([run.source for run in runs]),
        table=leaderboard_table(suites),
        left_out=left_out,
        covers=covers([part for line in lines for part in (line.score, line.gain)]),
        models=list(dict.fromkeys(suite.model for suite in suites)),
        architectures=sorted({suite.architecture for suite in suites}),
    )


def leaderboard_table(suites: Sequence[RankedSuite]) -> ReportTable:
    """One row for each suite, with why it is not compared where it is not."""
    table = ReportTable("Every suite, mean over its tasks", _HEADS)
    for suite in suites:
        line = suite.line(MAIN)
        table.rows.append(
            [
                text_entry(suite.model),
                text_entry(suite.label, beside=_standing(suite)),
                score_entry(line.score),
                score_entry(line.gain),
                score_entry(line.best),
                score_entry(line.supervised),
                number_entry(suite.reach),
                count_entry(line.score.tasks),
                number_entry(suite.l0, digits=1),
                text_entry(suite.architecture),
            ]
        )
    return table


def leaderboard_rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The same as numbers, of the results that lie in these folders; SageError where there is
    none."""
    found = find_sources(folders)
    if found.left_out:
        logging.getLogger("sage").warning(found.left_out)
    runs = [summarise_run(read_run(source)) for source in found.listed]
    return [_row(suite) for suite in over_tasks(runs)]


def _row(suite: RankedSuite) -> dict[str, Any]:
    line = suite.line(MAIN)
    return {
        "model": suite.model,
        "suite": suite.suite,
        "architecture": suite.architecture,
        "L0": suite.l0,
        "reach": suite.reach,
        "tasks": line.score.tasks,
        HEADLINES[MAIN]: line.score.value,
        "low": line.score.low,
        "high": line.score.high,
        "best control": line.best.value,
        "gain": line.gain.value,
        "gain low": line.gain.low,
        "gain high": line.gain.high,
        "supervised": line.supervised.value,
    }


def _standing(suite: RankedSuite) -> str:
    if suite.null:
        return "a null"
    return "" if suite.compared else "on other nodes or tasks"
