"""The comparison of suites, of models of different size, and task by task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage.report.claim import Claim
from sage.report.differences import difference_table, suite_differences
from sage.report.figure_writer import FigureWriter, write_figures
from sage.report.html import write_page
from sage.report.links import page_links
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite, RunSummary, by_model
from sage.report.scored_run import read_run
from sage.report.sizes import SizeComparison, SizeRow, compare_sizes, no_comparison
from sage.report.tables.all_runs import task_table
from sage.report.tables.scores import blank_entry
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    count_entry,
    number_entry,
    score_entry,
    text_entry,
)


def write_comparison(
    out: Path, claim: Claim, suites: Sequence[RankedSuite], runs: Sequence[RunSummary]
) -> Path:
    """Write compare.html, which opens with the same claim as the overview."""
    sizes = _compare_sizes(runs)
    differences = suite_differences(suites, runs)
    return write_page(
        out / "compare.html",
        "compare.html",
        title="Comparison",
        claim=claim,
        links=page_links([run.source for run in runs]),
        figures=write_figures("compare", suites, FigureWriter(out, "figures/compare")),
        differences=difference_table(differences),
        one_seed=any(pair.redrawn is None for pair in differences),
        sizes=sizes,
        size_table=size_table(sizes),
        tables=[task_table(model, runs) for model in by_model(suites)],
    )


def size_table(sizes: SizeComparison) -> ReportTable:
    """One row for each model of each set of matched suites."""
    heads = [
        *columns("model", "D", "suite", "L0"),
        TableColumn("L0/D", "latents active on a token for each dimension of the stream"),
        TableColumn(HEADLINES[MAIN], "over the tasks and contrasts that all models have"),
        *columns("best control", "gain", "supervised"),
        TableColumn("above the smallest", "model, with a 95 % interval over test prompts"),
        *columns("tasks", "contrasts"),
    ]
    table = ReportTable("Models of different size, suites at matched L0/D", heads)
    table.rows.extend(_size_entries(row) for match in sizes.matches for row in match.rows)
    return table


def _size_entries(row: SizeRow) -> list[TableEntry]:
    suite, line = row.suite, row.line
    return [
        text_entry(suite.model),
        count_entry(suite.d_model),
        text_entry(suite.label),
        number_entry(suite.l0, digits=1),
        number_entry(suite.relative, digits=3),
        score_entry(line.score),
        score_entry(line.best),
        score_entry(line.gain),
        score_entry(line.supervised),
        _above(row),
        count_entry(line.score.tasks),
        count_entry(line.score.contrasts),
    ]


def _above(row: SizeRow) -> TableEntry:
    if row.above is None:
        return blank_entry()
    value, _, low, high, _ = row.above
    return TableEntry(f"{value:+.2f}", value, f"[{low:+.2f}, {high:+.2f}]")


def _compare_sizes(runs: Sequence[RunSummary]) -> SizeComparison:
    """The comparison of all models, for which only what all of them have is read again."""
    models = list(dict.fromkeys(run.source.model_and_plan for run in runs))
    passed = {
        (run.source.model_and_plan, run.source.task, run.source.seed)
        for run in runs
        if run.gate.passed
    }
    shared = [
        run.source
        for run in runs
        if all((model, run.source.task, run.source.seed) in passed for model in models)
    ]
    if len(models) < 2 or not shared:
        return no_comparison(models)
    return compare_sizes([read_run(source) for source in shared])
