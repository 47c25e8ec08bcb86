"""Tables of what a run's scores are made of: parts, budgets, interpretable latents alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sage.report.metrics import AT_A_BUDGET, MEASURED_ON_SHUFFLED_LABELS, PARTS
from sage.report.reported_score import ReportedScore, score_in
from sage.report.scored_run import ScoredRun
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    columns,
    count_entry,
    number_entry,
    score_entry,
    text_entry,
)
from sage.result import SUPERVISED, Row


class _Shown(NamedTuple):
    """A dictionary that is shown in detail, on a suite's nodes and on one contrast."""

    contrast: str
    suite: str
    dictionary: str


def parts_table(run: ScoredRun) -> ReportTable:
    """What the components are made of, as measured; and with shuffled labels."""
    heads = [
        *columns("contrast", "dictionary", *PARTS),
        *(
            TableColumn(f"{name}, labels shuffled", "chance: should be 0")
            for name in MEASURED_ON_SHUFFLED_LABELS
        ),
    ]
    table = ReportTable("Parts of the components, as measured", heads)
    for shown in _shown(run):
        contrast, suite, dictionary = shown
        parts = [run.score(part, suite, dictionary, section=contrast) for part in PARTS]
        table.rows.append(
            [
                text_entry(contrast),
                text_entry(run.label(dictionary)),
                *map(score_entry, [*parts, *_shuffled_scores(run, shown)]),
            ]
        )
    return table


def budget_table(run: ScoredRun) -> ReportTable:
    """What moving k max latents does: success, effect, what else moves, how large the moves are."""
    heads = [
        *columns("contrast", "dictionary"),
        TableColumn("k", "the largest that counts"),
        TableColumn("picks", "mean latents moved over all sites"),
        *columns(*AT_A_BUDGET),
    ]
    table = ReportTable("At the largest budget that counts", heads)
    for contrast, suite, dictionary in _shown(run):
        areas = run.metric_rows("area", suite, dictionary, section=contrast)
        if not areas:
            continue
        at_k: dict[str, Row | None] = {}
        for metric in AT_A_BUDGET:
            rows = run.metric_rows(metric, suite, dictionary, section=contrast)
            at_k[metric] = next((row for row in rows if row.k == areas[0].k), None)
        accuracy = at_k["accuracy"]
        table.rows.append(
            [
                text_entry(contrast),
                text_entry(run.label(dictionary)),
                count_entry(areas[0].k),
                number_entry(accuracy and accuracy.picks, digits=1),
                *(score_entry(_score_or(row, "not measured")) for row in at_k.values()),
            ]
        )
    return table


def interpretable_table(run: ScoredRun) -> ReportTable:
    """T1 and T2 with only the latents whose F1 reaches a level."""
    heads = columns("contrast", "dictionary", "latents with", "latents", "T1", "T2")
    table = ReportTable("With interpretable latents only", heads)
    for contrast, suite, dictionary in _shown(run):
        for row in run.metric_rows("interpretable latents", suite, dictionary, section=contrast):
            scores: list[ReportedScore] = []
            for metric in ("causal T1", "causal T2"):
                causal = run.metric_rows(metric, suite, dictionary, section=contrast)
                at_level = next((other for other in causal if other.at == row.at), None)
                scores.append(_score_or(at_level, "not in the result"))
            table.rows.append(
                [
                    text_entry(contrast),
                    text_entry(run.label(dictionary)),
                    text_entry(row.at or ""),
                    count_entry(row.value),
                    *map(score_entry, scores),
                ]
            )
    return table


def _shown(run: ScoredRun) -> Iterator[_Shown]:
    """The headline suites, and the supervised dictionary on the best one's nodes, by contrast."""
    headliners = run.headliners()
    for contrast in run.contrasts:
        for suite in headliners:
            yield _Shown(contrast, suite, suite)
        for best in headliners[:1]:
            yield _Shown(contrast, best, SUPERVISED)


def _shuffled_scores(run: ScoredRun, shown: _Shown) -> list[ReportedScore]:
    """What is left with shuffled labels; measured for suites only."""
    if shown.dictionary != shown.suite:
        unmeasured = ReportedScore(None, why="measured for suites only")
        return [unmeasured for _ in MEASURED_ON_SHUFFLED_LABELS]
    return [
        run.score(metric, shown.suite, "shuffled labels", section=shown.contrast)
        for metric in MEASURED_ON_SHUFFLED_LABELS
    ]


def _score_or(row: Row | None, why: str) -> ReportedScore:
    return ReportedScore(None, why=why) if row is None else score_in(row)
