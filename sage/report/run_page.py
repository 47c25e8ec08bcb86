"""The page of one task and model, from its gate to its provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage.audit.audit_result import verdict_notes
from sage.report.figure_writer import FigureWriter, write_figures
from sage.report.html import write_page
from sage.report.links import page_links
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RunSummary, summarise_run
from sage.report.reported_score import covers
from sage.report.scored_run import ScoredRun, read_run
from sage.report.sources import Source
from sage.report.tables import discovery, latents, parts, scores, suites
from sage.report.tables.table import ReportTable
from sage.report.words import told_notes


def write_run_page(source: Source, out: Path, sources: Sequence[Source]) -> RunSummary:
    """Read the results of a cell once, write its page and figures, and summarise it for the other
    pages."""
    run = read_run(source)
    write_page(
        out / f"{source.slug}.html",
        "run.html",
        title=f"{source.task} on {source.model_and_plan}",
        links=page_links(sources, source),
        result=run.result,
        source=source,
        reason=_why_no_scores(run),
        notes=told_notes(run.result.notes),
        verdicts=verdict_notes(run.result),
        lead=_lead(run),
        intervals=covers(scores.shown_scores(run)),
        figures=write_figures("run", run, FigureWriter(out, f"figures/{source.slug}")),
        score_tables=scores.score_tables(run),
        main=MAIN,
        tables=_tables(run),
        latent_tables=latents.latent_tables(run),
        detailed=[run.label(suite) for suite in run.detailed()],
    )
    return summarise_run(run)


def _tables(run: ScoredRun) -> dict[str, ReportTable]:
    return {
        "contrasts": discovery.contrast_table(run),
        "nodes": discovery.node_table(run),
        "heads": discovery.head_table(run),
        "strongest_features": discovery.strongest_features_table(run),
        "all_features": discovery.all_features_table(run),
        "dictionaries": scores.dictionary_table(run),
        "by_contrast": scores.contrast_table(run),
        "groups": scores.group_table(run),
        "lost": scores.lost_table(run),
        "levels": parts.level_table(run),
        "budgets": parts.budget_table(run),
        "parts": parts.part_table(run),
        "copying": parts.copying_table(run),
        "reach": suites.reach_table(run),
        "saes": suites.sae_table(run),
    }


def _lead(run: ScoredRun) -> str:
    """What the first of the suites shown in detail scores, in a sentence; one task ranks none."""
    detailed = run.detailed()
    if not detailed:
        return ""
    suite = run.suite(detailed[0])
    line = run.line(MAIN, suite.id)
    name = f"{run.label(suite.id)} (L0 {suite.l0:.1f})"
    if line.score.value is None:
        return f"{name} has no {HEADLINES[MAIN]} score here: {line.score.why}."
    return (
        f"{name}: interpretable control ({HEADLINES[MAIN]}) {line.score}, best control {line.best},"
        f" gain {line.gain}, supervised features {line.supervised}."
    )


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
