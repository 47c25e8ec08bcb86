"""The first line of a report: the best control among suites that can be ranked, or why none."""

from __future__ import annotations

from pathlib import Path

import pytest

from report.by_hand import make_failed, make_result, write_results
from sage.report.claim import Claim, make_claim
from sage.report.ranking import rank_suites, summarise_run
from sage.report.scored_run import read_run
from sage.report.sources import find_sources
from sage.result import Result


def _claim(folder: Path, *results: Result) -> Claim:
    sources = find_sources([write_results(folder, *results)])
    runs = [summarise_run(read_run(source)) for source in sources]
    return make_claim(rank_suites(runs), runs)


def test_the_claim_is_the_mean_over_tasks_with_its_interval(tmp_path: Path) -> None:
    """(.6 + .8)/2, with sqrt(.03^2 + .04^2)/2 = .025."""
    first = make_result({"a": 0.6, "b": 0.5}, task="ioi", stderr=0.03)
    second = make_result({"a": 0.8, "b": 0.7}, task="successor", stderr=0.04)
    assert _claim(tmp_path, first, second).headline == (
        "The best suite, tiny/a, controls 0.70 [0.65, 0.75] of what supervised features control,"
        " over 2 tasks."
    )


def test_what_must_stand_beside_the_claim_does(tmp_path: Path) -> None:
    scored = make_result({"a": 0.6, "b": 0.5}, task="ioi")
    beside = " ".join(_claim(tmp_path, scored, make_failed(task="successor")).beside)
    assert "PCA 0.40 [0.36, 0.44], untrained 0.05 [0.01, 0.09]" in beside
    assert "reach 100 % of the sections" in beside
    assert "best of 2 suites on the same prompts" in beside
    assert "tiny has a control score on 1 of 2 tasks" in beside


def test_a_suite_that_reaches_less_is_not_ranked_with_the_others(tmp_path: Path) -> None:
    result = make_result({"narrow": 0.9, "wide": 0.5}, reach={"narrow": 0.3})
    assert "tiny/wide, controls 0.50" in _claim(tmp_path, result).headline


def test_a_suite_scored_on_fewer_tasks_is_not_ranked_with_the_others(tmp_path: Path) -> None:
    both = make_result({"often": 0.5, "once": 0.9}, task="ioi")
    often = make_result({"often": 0.5, "once": None}, task="successor")
    assert "tiny/often, controls 0.50" in _claim(tmp_path, both, often).headline


def test_models_are_compared_by_their_best_suites(tmp_path: Path) -> None:
    small = make_result({"s": 0.4}, model="small")
    large = make_result({"s": 0.6}, model="large")
    assert "large/s, controls 0.60" in _claim(tmp_path, small, large).headline


@pytest.mark.parametrize(
    ("result", "headline", "beside"),
    [
        (
            make_failed(),
            "No model does its task here, so nothing was scored.",
            "gates below",
        ),
        (
            make_result({"a": None}),
            "No suite has a control score here.",
            "Undefined: no contrast has a control score.",
        ),
        (
            make_result({"a": 0.5}, reach={"a": 0.0}),
            "No suite has a control score here.",
            "no node of the section reads an SAE of this suite",
        ),
        (make_result({}), "No suite has a control score here.", "Undefined: no suite was given."),
    ],
    ids=["gate", "undefined", "reach", "no suite"],
)
def test_where_there_is_no_claim_the_first_line_says_why(
    tmp_path: Path, result: Result, headline: str, beside: str
) -> None:
    claim = _claim(tmp_path, result)
    assert claim.headline == headline
    assert beside in claim.beside[0]
