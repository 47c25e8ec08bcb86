"""The overview: the claim, every suite, every task and model, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sage.report.claim import Claim
from sage.report.figure_writer import FigureWriter, write_figures
from sage.report.html import write_file, write_page
from sage.report.links import page_links
from sage.report.ranking import RankedSuite, RunSummary
from sage.report.tables.all_runs import gate_table, stage_table, suite_table, time_table
from sage.report.tables.table import ReportTable, escape_markdown
from sage.report.words import count


def write_overview(
    out: Path, claim: Claim, suites: Sequence[RankedSuite], runs: Sequence[RunSummary]
) -> Path:
    """Write index.html and, with the claim and the tables alone, report.md.

    Returns the path of the page.
    """
    tables = {
        "suites": suite_table(suites),
        "gates": gate_table(runs),
        "stages": stage_table(runs),
        "time": time_table(runs),
    }
    write_file(out / "report.md", _markdown(claim, tables).encode())
    return write_page(
        out / "index.html",
        "overview.html",
        title="Overview",
        links=page_links([run.source for run in runs]),
        claim=claim,
        tables=tables,
        figures=write_figures("overview", suites, FigureWriter(out, "figures/overview")),
        seconds=sum(run.info.seconds for run in runs),
        forwards=sum(run.info.forwards for run in runs),
        runs=count(len(runs), "run"),
        versions=sorted({run.info.sage for run in runs}),
    )


def _markdown(claim: Claim, tables: Mapping[str, ReportTable]) -> str:
    parts = [
        f"# {escape_markdown(claim.headline)}",
        *map(escape_markdown, claim.beside),
        *(table.markdown() for table in tables.values()),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
