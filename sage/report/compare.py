"""The comparison: every score against sparsity across suites and models, and task by task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage.report.figure_writer import FigureWriter, write_figures
from sage.report.html import write_page
from sage.report.links import page_links
from sage.report.ranking import RankedSuite, RunSummary, by_model
from sage.report.tables.all_runs import task_table


def write_comparison(out: Path, suites: Sequence[RankedSuite], runs: Sequence[RunSummary]) -> Path:
    """Write compare.html."""
    return write_page(
        out / "compare.html",
        "compare.html",
        title="Comparison",
        links=page_links([run.source for run in runs]),
        figures=write_figures("compare", suites, FigureWriter(out, "figures/compare")),
        tables=[task_table(model, runs) for model in by_model(suites)],
    )
