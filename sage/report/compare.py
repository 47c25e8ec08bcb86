"""The comparison: scores against sparsity across suites and models, and control task by task."""

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
        budgets=say_budgets(runs),
        tables=[task_table(model, runs) for model in by_model(suites)],
    )


def say_budgets(runs: Sequence[RunSummary]) -> str:
    """What the largest budgets say about comparing models."""
    largest: dict[str, set[int]] = {}
    for run in runs:
        largest.setdefault(run.source.model, set()).update(run.largest_ks)
    all_ks = {k for ks in largest.values() for k in ks}
    if not all_ks:
        return "No control was measured."
    if len(all_ks) == 1:
        return (
            f"Control is measured up to k max = {min(all_ks)} latents at each site on every model"
            " here, so it compares across models."
        )
    by_name = [
        f"{' and '.join(map(str, sorted(ks)))} on {model}" for model, ks in largest.items() if ks
    ]
    return (
        f"The largest budget k max differs: {', '.join(by_name)}. Larger budgets reward dense"
        " bases, so control does not compare across these models; sage score --across-models fixes"
        " the budget at 4."
    )
