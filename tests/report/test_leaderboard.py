"""The leaderboard: a row for each suite, worked out by hand, and what filters leave of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from report.by_hand import MODEL, SUITE, make_result, write_results
from sage.report.leaderboard import leaderboard_rows


def test_every_suite_has_one_row_with_its_gain_over_the_best_control(results: Path) -> None:
    """topk: .8 and .9 on two seeds of ioi, .4 on successor, .7 on induction, so .65, where the best
    control has .2 everywhere. Its SAEs have an L0 of 8, those of relu of 16 and 8."""
    rows = {(row["model"], row["suite"]): row for row in leaderboard_rows([results])}
    assert len(rows) == 7
    topk, relu = rows["tiny", "topk"], rows["tiny", "relu"]
    assert (topk["L0"], relu["L0"]) == (8.0, 12.0)
    assert (topk["tasks"], topk["reach"]) == (3, 1.0)
    assert topk["sage"] == pytest.approx((0.85 + 0.4 + 0.7) / 3)
    assert topk["gain"] == pytest.approx(0.65 - 0.2)
    assert topk["best control"] == pytest.approx(0.2)
    assert topk["supervised"] == pytest.approx(0.95)
    assert rows["tiny", "nothing"]["sage"] is None
    assert rows["tiny", "nothing"]["tasks"] == 0
    assert rows[MODEL, SUITE]["reach"] == 1.0


def test_the_interval_of_the_gain_is_that_of_the_result(tmp_path: Path) -> None:
    """One task: .5 less .2, and two standard errors of .02 to either side."""
    folder = write_results(tmp_path, make_result({"topk": 0.5}))
    (row,) = leaderboard_rows([folder])
    assert [row[name] for name in ("gain", "gain low", "gain high")] == pytest.approx(
        [0.3, 0.26, 0.34]
    )


def test_the_page_says_which_suites_are_compared_and_escapes_names(report: Path) -> None:
    page = (report / "leaderboard.html").read_text(encoding="utf-8")
    assert "7 suites." in page
    assert page.count("on other nodes or tasks") >= 2  # `partial` and `nothing` reach less
    assert page.count("a null") == 1
    assert "<b>$x_1$</b>" not in page
    assert 'href="leaderboard.html"' in (report / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"https?:", page)


def test_filters_by_model_and_l0_leave_the_rows_that_fit(report: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto((report / "leaderboard.html").as_uri())
        shown = "document.querySelectorAll('tbody tr:not([hidden])').length"
        assert page.evaluate(shown) == 7
        page.select_option("select[name=model]", label="tiny")
        assert page.evaluate(shown) == 5
        page.fill("input[name=high]", "12")
        assert page.evaluate(shown) == 2
        assert page.text_content("output") == "2 of 7 shown"
        # What the table is searched for and what it is filtered by hold together.
        page.evaluate("show(document.querySelector('table.sortable'), 'search', () => false)")
        assert page.evaluate(shown) == 0
        page.fill("input[name=high]", "")
        assert page.evaluate(shown) == 0
        page.evaluate("show(document.querySelector('table.sortable'), 'search', () => true)")
        assert page.evaluate(shown) == 5
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
