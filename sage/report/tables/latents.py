"""Which latents stand behind the headline: those moved most, what they mean, on which prompts."""

from __future__ import annotations

from sage.report.scored_run import ScoredRun
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    number_entry,
    text_entry,
)
from sage.result import MovedLatent, MoveExample

# Of each contrast and suite.
MOST_ROWS = 8


def latent_tables(run: ScoredRun) -> dict[str, ReportTable]:
    """A table for each suite that moved any latents, those shown in detail first; by label."""
    detailed = run.detailed()
    others = [suite.id for suite in run.suites if suite.id not in detailed]
    tables = {run.label(suite): _table(run, suite) for suite in (*detailed, *others)}
    return {label: table for label, table in tables.items() if table.rows}


def _table(run: ScoredRun, suite: str) -> ReportTable:
    heads = [
        *columns("contrast"),
        TableColumn("latent", "its number in its SAE"),
        TableColumn("moved", "share of the edits that the score counts in which it was moved"),
        TableColumn("means", "the attribute and value that its activity predicts best on fit"),
        TableColumn("F1", "of the best it may mean, corrected for chance, on fit"),
        TableColumn("site", "the stream that its SAE reads, and the position"),
        TableColumn("points at", "the supervised feature nearest to its direction"),
        columns("cosine")[0],
        TableColumn("pairs", "test pairs on which it was moved"),
        TableColumn("on a prompt", "what the model says before, and under the edit"),
    ]
    table = ReportTable(f"Latents of {run.label(suite)} behind interpretable control", heads)
    for contrast in run.contrasts:
        latents = [
            latent
            for latent in run.result.moved
            if (latent.contrast, latent.suite) == (contrast, suite)
        ]
        table.rows.extend(map(_entries, latents[:MOST_ROWS]))
    return table


def _entries(latent: MovedLatent) -> list[TableEntry]:
    example = _told(latent.examples)
    return [
        text_entry(latent.contrast),
        TableEntry(str(latent.latent), latent.latent, link=latent.page),
        TableEntry(f"{100 * latent.share:.0f} %", latent.share),
        text_entry(latent.value),
        number_entry(latent.f1),
        text_entry(latent.site),
        text_entry(latent.feature),
        number_entry(latent.cosine) if latent.cosine is not None else TableEntry("", None),
        TableEntry(f"{latent.pairs}/{latent.n}", latent.pairs),
        example,
    ]


def _told(examples: list[MoveExample]) -> TableEntry:
    """One prompt with what the model says before and after: one that the edit changes, if any."""
    if not examples:
        return TableEntry("", None)
    changed = [example for example in examples if example.edited != example.said]
    example = (changed or examples)[0]
    aim = "as wanted" if example.edited == example.wanted else f"wanted {example.wanted}"
    beside = f"{example.said} → {example.edited} ({aim})"
    return text_entry(example.text, beside=beside)
