"""The page of one task and model, from its gate to its provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage.report.figure_writer import FigureWriter, write_figures
from sage.report.html import write_page
from sage.report.links import page_links
from sage.report.metrics import NORMALISED
from sage.report.ranking import RunSummary, summarise_run
from sage.report.scored_run import ScoredRun, read_run
from sage.report.sources import Source
from sage.report.tables import discovery, parts, scores, suites
from sage.report.tables.table import ReportTable


def write_run_page(source: Source, out: Path, sources: Sequence[Source]) -> RunSummary:
    """Read a result once, write its page and figures, and summarise it for the other pages."""
    run = read_run(source)
    write_page(
        out / f"{source.slug}.html",
        "run.html",
        title=f"{source.task} on {source.model}",
        links=page_links(sources, source),
        result=run.result,
        source=source,
        reason=_why_no_scores(run),
        best=_best(run),
        uncontrolled=_uncontrolled(run),
        figures=write_figures("run", run, FigureWriter(out, f"figures/{source.slug}")),
        tables=_tables(run),
    )
    return summarise_run(run)


def _tables(run: ScoredRun) -> dict[str, ReportTable | None]:
    return {
        "contrasts": discovery.contrast_table(run),
        "nodes": discovery.node_table(run),
        "strongest_features": discovery.strongest_features_table(run),
        "all_features": discovery.all_features_table(run),
        "scores": scores.score_table(run),
        "controls": scores.control_table(run),
        "components": scores.component_table(run),
        "groups": scores.group_table(run),
        "options": scores.option_table(run),
        "parts": parts.parts_table(run),
        "budget": parts.budget_table(run),
        "interpretable": parts.interpretable_table(run),
        "reach": suites.reach_table(run),
        "saes": suites.sae_table(run),
    }


def _best(run: ScoredRun) -> str:
    """The best suite's scores, in a sentence."""
    headliners = run.headliners()
    if not headliners:
        return ""
    clauses: list[str] = []
    for metric in ("control", "sage"):
        score = run.summary(metric, headliners[0])
        why = "" if score.value is not None else f" ({score.why})"
        clauses.append(f"{metric} {score}{why}")
    return f"Best suite here: {run.label(headliners[0])}, {' and '.join(clauses)}."


def _uncontrolled(run: ScoredRun) -> list[tuple[str, str]]:
    """Contrasts without a control score for the best suite, and why."""
    headliners = run.headliners()
    if not headliners:
        return []
    scores = {
        contrast: run.score(NORMALISED["T2"], headliners[0], section=contrast)
        for contrast in run.contrasts
    }
    return [(contrast, score.why) for contrast, score in scores.items() if score.value is None]


def _why_no_scores(run: ScoredRun) -> str:
    """Why there are no scores, if there are none."""
    if not run.result.gate.passed:
        notes = " ".join(run.result.notes)
        return notes or "The model does not do this task, so nothing was scored."
    if not run.contrasts:
        return "No contrast was searched for."
    if not run.result.suites:
        return "No suite was given, so there is nothing to score."
    return ""
