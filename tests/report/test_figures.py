"""Figures are found by listing their folder, and each stands in a place that its page has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sage.report
from sage.report.figures import figures

REPORT = Path(sage.report.__file__).parent


def test_every_file_of_the_folder_is_a_figure() -> None:
    files = {path.stem for path in (REPORT / "figures").glob("*.py")}
    assert set(figures()) == files - {"__init__", "figure"}
    assert all(figure.title for figure in figures().values())


def test_every_figure_is_on_one_page() -> None:
    on_pages = [*figures("run"), *figures("overview"), *figures("compare")]
    assert sorted(on_pages) == sorted(figures())


@pytest.mark.parametrize("name", figures())
def test_a_figure_stands_in_a_place_that_its_page_has(name: str) -> None:
    figure = figures()[name]
    template = (REPORT / "templates" / f"{figure.page}.html").read_text(encoding="utf-8")
    assert figure.place in re.findall(r"place\(figures\.(\w+)", template)
