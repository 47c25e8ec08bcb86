"""Tables of a run's scores: over all contrasts, by contrast, by group of nodes, under options."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.metrics import NORMALISED, OVERALL_COLUMNS
from sage.report.reported_score import plain_mean, score_in
from sage.report.scored_run import ScoredRun
from sage.report.tables.table import (
    ReportTable,
    TableEntry,
    columns,
    count_entry,
    number_entry,
    score_entry,
    text_entry,
)
from sage.result import COMPONENTS


def score_table(run: ScoredRun) -> ReportTable:
    """Every suite over all contrasts."""
    heads = columns("suite", "L0", "FVU", "reach", *OVERALL_COLUMNS)
    table = ReportTable("Suites over all contrasts, between floor and ceiling", heads)
    best = run.headliners()[:1]
    for suite in run.ranked():
        table.rows.append(
            [
                text_entry(run.label(suite.id), strong=suite.id in best),
                number_entry(plain_mean(sae.l0 for sae in suite.saes), digits=1),
                number_entry(plain_mean(sae.fvu for sae in suite.saes), digits=3),
                number_entry(plain_mean(suite.reach.values())),
                *_overall_entries(run, suite.id, suite.id),
            ]
        )
    return table


def control_table(run: ScoredRun) -> ReportTable:
    """The controls on the best suite's nodes."""
    heads = columns("dictionary", "L0", *OVERALL_COLUMNS)
    if not run.headliners():
        return ReportTable("Controls", heads)
    best = run.suite(run.headliners()[0])
    table = ReportTable(f"Controls on the nodes that {run.label(best.id)} reaches", heads)
    l0 = {best.id: plain_mean(sae.l0 for sae in best.saes), **best.controls_l0}
    for dictionary in run.dictionaries(best.id):
        table.rows.append(
            [
                text_entry(run.label(dictionary), strong=dictionary == best.id),
                number_entry(
                    l0.get(dictionary),
                    digits=1,
                    why="not a dictionary of the residual stream, so it has no L0 there",
                ),
                *_overall_entries(run, best.id, dictionary),
            ]
        )
    return table


def component_table(run: ScoredRun) -> ReportTable:
    """Every suite on every contrast, as measured and between floor and ceiling."""
    heads = columns("contrast", "suite", "component", "raw", "floor", "ceiling", "normalised", "n")
    return ReportTable("Components by contrast", heads, list(_component_rows(run)))


def group_table(run: ScoredRun) -> ReportTable:
    """The headline suites on each group of a section's nodes: a kind at a position."""
    heads = columns("contrast", "group", "nodes", "suite", *COMPONENTS)
    table = ReportTable("Control by group of nodes", heads)
    for section in run.result.sections:
        for suite in run.headliners() if section.id != section.contrast else []:
            scores = [run.score(name, suite, section=section.id) for name in NORMALISED.values()]
            table.rows.append(
                [
                    text_entry(section.contrast),
                    text_entry(section.id.removeprefix(f"{section.contrast}/")),
                    count_entry(len(section.nodes)),
                    text_entry(run.label(suite)),
                    *map(score_entry, scores),
                ]
            )
    return table


def option_table(run: ScoredRun) -> ReportTable | None:
    """Components under options that were scored beside the headline."""
    rows = [
        [
            text_entry(row.section),
            text_entry(run.label(row.suite)),
            text_entry(row.metric),
            text_entry(row.choice),
            text_entry(row.option),
            score_entry(score_in(row)),
        ]
        for row in run.option_rows
        if row.metric in COMPONENTS
    ]
    if not rows:
        return None
    heads = columns("contrast", "suite", "component", "choice", "option", "raw")
    return ReportTable("Options scored beside the headline", heads, rows)


def _overall_entries(run: ScoredRun, suite: str, dictionary: str) -> list[TableEntry]:
    metrics = OVERALL_COLUMNS.values()
    return [score_entry(run.summary(metric, suite, dictionary)) for metric in metrics]


def _component_rows(run: ScoredRun) -> Iterator[list[TableEntry]]:
    suites = [suite.id for suite in run.ranked()]
    for contrast in run.contrasts:
        for suite in suites:
            for component in COMPONENTS:
                yield _component_row(run, contrast, suite, component)


def _component_row(run: ScoredRun, contrast: str, suite: str, component: str) -> list[TableEntry]:
    rows = run.metric_rows(component, suite, section=contrast)
    raw = run.score(component, suite, section=contrast)
    normalised = run.score(NORMALISED[component], suite, section=contrast)
    floor, ceiling = (rows[0].floor, rows[0].ceiling) if rows else (None, None)
    why = normalised.why or "not measured"
    return [
        text_entry(contrast),
        text_entry(run.label(suite)),
        text_entry(component),
        score_entry(raw),
        number_entry(floor, why=why),
        number_entry(ceiling, why=why),
        score_entry(normalised),
        count_entry(raw.n),
    ]
