"""The overview: the claim, every suite, every task and model, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sage.audit.audit_result import verdict_notes
from sage.report.claim import Claim
from sage.report.figure_writer import FigureWriter, write_figures
from sage.report.html import write_file, write_page
from sage.report.links import page_links
from sage.report.metrics import HEADLINES, MAIN, headline_title
from sage.report.ranking import RankedSuite, RunSummary
from sage.report.tables.all_runs import (
    gate_table,
    lost_table,
    stage_table,
    suite_tables,
    time_table,
)
from sage.report.tables.table import ReportTable, escape_markdown
from sage.report.words import count, told_notes


class ScoreWords(NamedTuple):
    """A score in words: what tables call it, what its zero and its one are."""

    title: str
    zero: str
    one: str


def write_overview(
    out: Path,
    claim: Claim,
    suites: Sequence[RankedSuite],
    runs: Sequence[RunSummary],
    *,
    left_out: str | None,
) -> Path:
    """Write index.html and, with the claim and the tables alone, report.md.

    `left_out` says which results were. Returns the path of the page.
    """
    score_tables = suite_tables(suites)
    tables = {
        "gates": gate_table(runs),
        "lost": lost_table(runs),
        "stages": stage_table(runs),
        "time": time_table(runs),
    }
    notes = _notes(runs, left_out)
    every_table = {**score_tables, **tables}
    write_file(out / "report.md", _markdown(claim, notes, every_table).encode())
    return write_page(
        out / "index.html",
        "overview.html",
        title="Overview",
        links=page_links([run.source for run in runs]),
        claim=claim,
        notes=notes,
        main=MAIN,
        score_tables=score_tables,
        tables=tables,
        words=_score_words(),
        figures=write_figures("overview", suites, FigureWriter(out, "figures/overview")),
        seconds=sum(run.info.seconds for run in runs),
        forwards=sum(run.info.forwards for run in runs),
        runs=count(len(runs), "run"),
        versions=sorted({run.info.sage for run in runs}),
    )


def _score_words() -> list[ScoreWords]:
    """Every score of the tables as its own definition says it."""
    from sage.scores.score import scores

    return [
        ScoreWords(headline_title(name), score.zero, score.one)
        for name, score in scores().items()
        if name in HEADLINES
    ]


def _notes(runs: Sequence[RunSummary], left_out: str | None) -> list[str]:
    """What must stand beside all numbers: results left out, and what plans saved on."""
    shown = [left_out] if left_out else []
    return [*shown, *told_notes(_shared_notes(runs)), *verdict_notes()]


def _shared_notes(runs: Sequence[RunSummary]) -> list[str]:
    """The notes that every scored run has: what its plan saved on."""
    scored = [run for run in runs if run.gate.passed]
    if not scored:
        return []
    return [note for note in scored[0].notes if all(note in run.notes for run in scored)]


def _markdown(claim: Claim, notes: Sequence[str], tables: Mapping[str, ReportTable]) -> str:
    parts = [
        f"# {escape_markdown(claim.headline)}",
        *map(escape_markdown, claim.beside),
        *map(escape_markdown, notes),
        *(table.markdown() for table in tables.values()),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
