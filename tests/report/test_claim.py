"""The first line of a report: the best suite's control over tasks, chosen among suites that can be
ranked, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from report.made import result, write
from sage.report.cell import read_cell
from sage.report.sources import find_sources
from sage.report.standing import CellSummary, claim, standings, summarise_cell
from sage.result import Result


def _summaries(folder: Path, results: Sequence[Result]) -> list[CellSummary]:
    return [summarise_cell(read_cell(source)) for source in find_sources([write(folder, *results)])]


def _headline(folder: Path, *results: Result) -> str:
    summaries = _summaries(folder, results)
    return claim(standings(summaries), summaries).headline


def test_the_claim_is_the_mean_over_tasks_with_its_interval(tmp_path: Path) -> None:
    """(.6 + .8)/2, with sqrt(.03^2 + .04^2)/2 = .025."""
    first = result({"a": 0.6, "b": 0.5}, task="ioi", stderr=0.03)
    second = result({"a": 0.8, "b": 0.7}, task="successor", stderr=0.04)
    assert _headline(tmp_path, first, second) == (
        "The best suite, tiny/a, controls 0.70 [0.65, 0.75] of what supervised features control, over 2 tasks."
    )


def test_what_must_stand_beside_the_claim_does(tmp_path: Path) -> None:
    summaries = _summaries(
        tmp_path,
        [result({"a": 0.6, "b": 0.5}, task="ioi"), result({}, task="successor", passed=False)],
    )
    beside = " ".join(claim(standings(summaries), summaries).beside)
    assert "PCA 0.40 [0.36, 0.44], untrained 0.05 [0.01, 0.09]" in beside
    assert "reach 100 % of the sections" in beside
    assert "best of 2 suites on the same prompts" in beside
    assert "tiny has a control score on 1 of 2 tasks" in beside


def test_a_suite_that_reaches_less_is_not_ranked_with_the_others(tmp_path: Path) -> None:
    assert "tiny/wide, controls 0.50" in _headline(
        tmp_path, result({"narrow": 0.9, "wide": 0.5}, reach={"narrow": 0.3})
    )


def test_a_suite_scored_on_fewer_tasks_is_not_ranked_with_the_others(tmp_path: Path) -> None:
    both = (
        result({"often": 0.5, "once": 0.9}, task="ioi"),
        result({"often": 0.5, "once": None}, task="successor"),
    )
    assert "tiny/often, controls 0.50" in _headline(tmp_path, *both)


def test_models_are_compared_by_their_best_suites(tmp_path: Path) -> None:
    assert "large/s, controls 0.60" in _headline(
        tmp_path, result({"s": 0.4}, model="small"), result({"s": 0.6}, model="large", d_model=128)
    )


@pytest.mark.parametrize(
    ("made", "headline", "beside"),
    [
        (
            result({}, passed=False),
            "No model does its task here, so nothing was scored.",
            "gates below",
        ),
        (
            result({"a": None}),
            "No suite has a control score here.",
            "Undefined: no contrast has a control score.",
        ),
        (
            result({"a": 0.5}, reach={"a": 0.0}),
            "No suite has a control score here.",
            "no node of the section reads an SAE of this suite",
        ),
        (result({}), "No suite has a control score here.", "Undefined: no suite was given."),
    ],
    ids=["gate", "undefined", "reach", "no suite"],
)
def test_where_there_is_no_claim_the_first_line_says_why(
    tmp_path: Path, made: Result, headline: str, beside: str
) -> None:
    summaries = _summaries(tmp_path, [made])
    found = claim(standings(summaries), summaries)
    assert found.headline == headline
    assert beside in found.beside[0]
