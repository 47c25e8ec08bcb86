"""Tables say what is undefined and why; Markdown and CSV show names as they are and run nothing."""

from __future__ import annotations

import csv
import io

import pytest

from sage.report.score import Score
from sage.report.tables import Column, Table, csv_text, number, score, text

TABLE = Table(
    "Some | suites",
    [Column("suite"), Column("control"), Column("L0")],
    [
        [text("a|b"), score(Score(0.5, 0.4, 0.6, 0.05, 9)), number(8.04, digits=1)],
        [
            text("<i>x</i>"),
            score(Score(None, why="nothing moves")),
            number(None, why="not measured"),
        ],
        [text("c"), score(Score(None, why="nothing moves")), number(2e-6, digits=3)],
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
