"""The audit as a page: verdicts, every cell with its figure and command, and three pictures."""

from __future__ import annotations

from pathlib import Path

from sage.audit.audit_result import AuditResult, summary
from sage.audit.metrics import audited
from sage.audit.plan import LENSES
from sage.report.audit_figures import against_l0, against_quality, probe_against_control
from sage.report.charts.look import look
from sage.report.figure_writer import FigureWriter
from sage.report.html import write_assets, write_page
from sage.report.tables.table import ReportTable, TableEntry, columns, text_entry

PAGE, FIGURES = "audit.html", "figures/audit"
_MARK = {True: "pass", False: "fail", None: "not judged"}


def write_audit_page(result: AuditResult, out: Path) -> Path:
    """Write audit.html with its figures into a folder; returns the path of the page."""
    write_assets(out)
    writer = FigureWriter(out, FIGURES)
    with look():
        drawings = [draw(result) for draw in (against_l0, against_quality, probe_against_control)]
        figures = [writer.write(drawing.alt, drawing) for drawing in drawings if drawing]
    return write_page(
        out / PAGE,
        "audit.html",
        title="Audit",
        links=None,
        result=result,
        minutes=result.seconds / 60,
        verdicts=verdict_table(result),
        cells=cell_table(result),
        figures=figures,
    )


def verdict_table(result: AuditResult) -> ReportTable:
    """One row a metric, one column a lens, and the verdict."""
    metrics = audited()
    table = ReportTable(
        "Every metric under every lens; how many places it passed in, and the figure of the worst",
        columns("metric", "verdict", "why", *LENSES),
    )
    for verdict in result.verdicts:
        metric = metrics.get(verdict.metric)
        title = metric.title if metric else verdict.metric
        version = f"version {verdict.version}"
        word, why = text_entry(verdict.word), text_entry("; ".join(verdict.why))
        lenses = [text_entry(summary(result.at(verdict.metric, lens))) for lens in LENSES]
        table.rows.append([TableEntry(title, title, version, strong=True), word, why, *lenses])
    return table


def cell_table(result: AuditResult) -> ReportTable:
    """Every cell: the figures behind it, what it fails by, and what makes it anew."""
    table = ReportTable(
        "Every cell", columns("metric", "lens", "where", "passed", "figures", "fails by", "command")
    )
    for cell in result.cells:
        words = (
            cell.metric, cell.lens, cell.where, _MARK[cell.passed], cell.said,
            "; ".join(cell.failed), cell.command(quick=result.quick),
        )  # fmt: skip
        table.rows.append([text_entry(word) for word in words])
    return table
