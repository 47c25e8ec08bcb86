"""Tables of the suites that a run scored: what they reach, and their SAEs."""

from __future__ import annotations

from sage.report.scored_run import ScoredRun
from sage.report.tables.table import ReportTable, columns, count_entry, number_entry, text_entry


def reach_table(run: ScoredRun) -> ReportTable:
    """How much of each contrast's section a suite reads."""
    table = ReportTable(
        "Reach: share of each section's summed effect at nodes that read an SAE of the suite",
        columns("suite", *run.contrasts),
    )
    for suite in run.suites:
        shares = [suite.reach.get(contrast) for contrast in run.contrasts]
        entries = [number_entry(share, why="the section was not scored") for share in shares]
        table.rows.append([text_entry(run.label(suite.id)), *entries])
    return table


def sae_table(run: ScoredRun) -> ReportTable:
    """Every SAE of every suite."""
    heads = columns("suite", "SAE", "architecture", "hook", "width", "L0", "FVU")
    table = ReportTable("SAEs, with L0 and FVU on the prompts of fit", heads)
    for suite in run.suites:
        for sae in suite.saes:
            table.rows.append(
                [
                    text_entry(run.label(suite.id)),
                    text_entry(sae.id),
                    text_entry(sae.architecture),
                    text_entry(sae.hook),
                    count_entry(sae.width),
                    number_entry(sae.l0, digits=1),
                    number_entry(sae.fvu, digits=3),
                ]
            )
    return table
