"""Tables of what a run's scores are made of: F1 levels, budgets, parts, and copying by k."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sage.report.metrics import HEADLINES
from sage.report.reported_score import score_in
from sage.report.scored_run import COPYING, DictionaryRows, ScoredRun
from sage.report.tables.scores import blank_entry
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    score_entry,
    text_entry,
)
from sage.result import ALL, Row
from sage.scores.levels import OTHER_FORM

THE_SCORE = "the score"


class _Pivot(NamedTuple):
    """Rows of a result as a table: its columns, and what tells the lines of a dictionary apart."""

    caption: str
    column: Callable[[Row], str]
    line: Callable[[Row], Sequence[str]]


def level_table(run: ScoredRun) -> ReportTable:
    """The scores of moved latents with those that mean something at each F1 level, in both
    forms; the others have neither."""
    details = _only(run, lambda row: row.metric in HEADLINES and _is_plain(row))
    several = {row.metric for detail in details for row in detail.rows if row.at is not None}
    details = [
        detail._replace(rows=[row for row in detail.rows if row.metric in several])
        for detail in details
    ]
    rows = [row for detail in details for row in detail.rows]
    formless = {row.metric for row in rows if row.at is not None and row.form is None}
    pivot = _Pivot(
        "By F1 level, with the latents that reach it",
        lambda row: THE_SCORE if row.at in (None, OTHER_FORM) else row.at,
        lambda row: (HEADLINES[row.metric], "" if row.metric in formless else row.form or ""),
    )
    return _pivot_table(run, details, pivot, ("score", "form"))


def budget_table(run: ScoredRun) -> ReportTable:
    """Control and isolation at each budget, with the latents moved at all sites together."""
    pivot = _Pivot(
        "By budget, with all latents; beside it how many were moved",
        lambda row: row.budget or "",
        lambda row: (row.metric, row.form or "", row.at or "all nodes"),
    )
    details = _only(run, lambda row: row.budget is not None)
    return _pivot_table(run, details, pivot, ("number", "form", "nodes"))


def part_table(run: ScoredRun) -> ReportTable:
    """What the scores are made of and what stands beside them in no mean."""
    pivot = _Pivot("Parts, and what stands beside the scores", lambda row: row.metric, _one_line)
    details = _only(
        run,
        lambda row: row.metric not in (*HEADLINES, COPYING) and _is_plain(row),
    )
    return _pivot_table(run, details, pivot, ())


def copying_table(run: ScoredRun) -> ReportTable:
    """Copying of every dictionary that was copied, by k."""
    pivot = _Pivot("Copying, by k", lambda row: f"k = {row.k}", _one_line)
    details: list[DictionaryRows] = []
    for contrast in run.contrasts:
        for suite in run.suites:
            for dictionary in run.dictionaries(suite.id):
                rows = run.beside.get((contrast, suite.id, dictionary), [])
                copied = [row for row in rows if row.metric == COPYING and row.k is not None]
                if copied:
                    details.append(DictionaryRows(contrast, suite.id, dictionary, copied))
    return _pivot_table(run, details, pivot, ())


def _one_line(row: Row) -> Sequence[str]:
    """Where all rows of a dictionary stand on one line."""
    del row
    return ()


def _is_plain(row: Row) -> bool:
    """Whether a row is of no single budget or k."""
    return row.budget is None and row.k is None


def _only(run: ScoredRun, wanted: Callable[[Row], bool]) -> list[DictionaryRows]:
    """The wanted rows of what is shown in detail."""
    details = [
        detail._replace(rows=[row for row in detail.rows if wanted(row)])
        for detail in run.details(run.detailed())
    ]
    return [detail for detail in details if detail.rows]


def _pivot_table(
    run: ScoredRun, details: Sequence[DictionaryRows], pivot: _Pivot, line_heads: Sequence[str]
) -> ReportTable:
    """A line for each dictionary and what tells its rows apart, a column for each of the rest."""
    rows = [row for detail in details for row in detail.rows]
    names = list(dict.fromkeys(map(pivot.column, rows)))
    heads = columns("contrast", "on the nodes of", "dictionary", *line_heads)
    table = ReportTable(pivot.caption, [*heads, *map(TableColumn, names)])
    for detail in details:
        for line in _distinct(pivot.line(row) for row in detail.rows):
            of_line = {
                pivot.column(row): row for row in detail.rows if tuple(pivot.line(row)) == line
            }
            table.rows.append(
                [
                    text_entry(detail.contrast),
                    text_entry(run.label(detail.suite)),
                    text_entry(_dictionary(run, detail.dictionary)),
                    *map(text_entry, line),
                    *(_number(of_line.get(name)) for name in names),
                ]
            )
    return table


def _distinct(lines: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(map(tuple, lines)))


def _dictionary(run: ScoredRun, name: str) -> str:
    return "all alike" if name == ALL else run.label(name)


def _number(row: Row | None) -> TableEntry:
    """A row's value with its interval and, where latents were moved, how many."""
    if row is None:
        return blank_entry()
    entry = score_entry(score_in(row))
    if row.picks is None or row.value is None:
        return entry
    moved = f"{row.picks:.1f} moved"
    return entry._replace(beside=f"{entry.beside}, {moved}" if entry.beside else moved)
