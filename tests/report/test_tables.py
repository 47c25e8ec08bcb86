"""Tables say what is undefined and why; Markdown and CSV show names as they are and run nothing."""

from __future__ import annotations

import csv
import io

import pytest

from sage.report.reported_score import ReportedScore
from sage.report.tables.table import (
    ReportTable,
    columns,
    csv_text,
    number_entry,
    score_entry,
    text_entry,
)

NOTHING_MOVES = ReportedScore(None, why="nothing moves")
TABLE = ReportTable(
    "Some | suites",
    columns("suite", "control", "L0"),
    [
        [
            text_entry("a|b"),
            score_entry(ReportedScore(0.5, 0.4, 0.6, 0.05, 9)),
            number_entry(8.04, digits=1),
        ],
        [
            text_entry("<i>x</i>"),
            score_entry(NOTHING_MOVES),
            number_entry(None, why="not measured"),
        ],
        [text_entry("c"), score_entry(NOTHING_MOVES), number_entry(2e-6, digits=3)],
    ],
)


def test_columns_of_numbers_are_told_from_columns_of_names() -> None:
    assert TABLE.numeric == [False, True, True]


def test_each_reason_has_one_number() -> None:
    assert TABLE.footnotes == {"nothing moves": 1, "not measured": 2}


def test_markdown_escapes_names_and_lists_reasons() -> None:
    assert TABLE.markdown() == (
        "**Some \\| suites**\n"
        "\n"
        "| suite | control | L0 |\n"
        "|---|---:|---:|\n"
        "| a\\|b | 0.50 \\[0.40, 0.60\\] | 8.0 |\n"
        "| &lt;i&gt;x&lt;/i&gt; | undefined (1) | undefined (2) |\n"
        "| c | undefined (1) | 2e-06 |\n"
        "\n"
        "1. nothing moves\n"
        "2. not measured\n"
    )


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-x", "@sum", "\tx"])
def test_no_name_in_a_csv_is_a_formula(name: str) -> None:
    assert next(csv.DictReader(io.StringIO(csv_text([{"name": name}])))) == {"name": f"'{name}"}


@pytest.mark.parametrize("value", [-0.25, 1e-07, "-3.5", "+2", "-1e-05", True])
def test_numbers_in_a_csv_stay_numbers(value: object) -> None:
    assert next(csv.DictReader(io.StringIO(csv_text([{"value": value}])))) == {"value": str(value)}


def test_what_is_undefined_is_not_blank_in_a_csv() -> None:
    assert (
        csv_text([{"value": None, "status": "undefined: why, oh"}])
        == 'value,status\nNaN,"undefined: why, oh"\n'
    )
