"""The first line of a report: which suite leads where suites can be ranked, or why none is."""

from __future__ import annotations

from pathlib import Path

import pytest

from report.by_hand import make_failed, make_result, three_tasks, write_results
from sage.report.claim import Claim, make_claim
from sage.report.ranking import over_tasks, summarise_run
from sage.report.scored_run import read_run
from sage.report.sources import find_sources
from sage.result import Result


def _claim(folder: Path, *results: Result) -> Claim:
    sources, _ = find_sources([write_results(folder, *results)])
    runs = [summarise_run(read_run(source)) for source in sources]
    return make_claim(over_tasks(runs), runs)


def test_the_claim_names_the_suite_its_score_over_tasks_and_its_l0(tmp_path: Path) -> None:
    """(.6 + .8 + .7)/3 = .7, with sqrt(.03^2 + .06^2 + .06^2)/3 = .03; L0 (8 + 8)/2."""
    results = [
        make_result({"a": 0.6, "b": 0.5}, task="ioi", stderr=0.03),
        make_result({"a": 0.8, "b": 0.1}, task="successor", stderr=0.06),
        make_result({"a": 0.7, "b": 0.1}, task="induction", stderr=0.06),
    ]
    claim = _claim(tmp_path, *results)
    assert claim.headline == (
        "Highest interpretable control (sage): tiny/a 0.70 [0.64, 0.76] at L0 8.0."
    )
    assert claim.parts[1::2] == ("tiny/a", "0.70 [0.64, 0.76]", "8.0")


def test_what_must_stand_beside_the_claim_does(tmp_path: Path) -> None:
    """PCA was not measured with the latents that mean something: its control, T2, stands in. The
    two are .03 and -.01 apart: mean .01, sd .0283, and t(1) = 12.71 times .0283 / sqrt 2 = .254."""
    others = three_tasks({"a": 0.6, "b": 0.61}, seeds=(1,))
    claim = _claim(tmp_path, *three_tasks({"a": 0.6, "b": 0.57}), *others)
    beside = " ".join(claim.beside)
    assert "tiny/a, over 3 contrasts of 3 tasks: sage 0.60 [" in beside
    assert "best control 0.20 [" in beside
    assert "gain over it 0.40 [" in beside
    assert "supervised features 0.95 [" in beside
    assert "text lookup 0.10 [" in beside
    assert "PCA (T2) 0.40 [" in beside
    assert "reach 100 % of the sections" in beside
    assert "Ranked on tiny: 2 suites over the 3 contrasts of 3 tasks" in beside
    assert "Second: b 0.59" in beside
    assert "; the first less it is +0.01 [-0.24, +0.26], in pairs over seeds" in beside
    assert "so that the two are not told apart" in beside
    assert "t intervals over 2 seeds" in beside


def test_suites_whose_intervals_are_apart_are_told_apart(tmp_path: Path) -> None:
    claim = _claim(tmp_path, *three_tasks({"a": 0.8, "b": 0.4}, seeds=(0, 1)))
    assert "the first less it is +0.40 [+0.40, +0.40]" in " ".join(claim.beside)
    assert "not told apart" not in " ".join(claim.beside)


def test_a_leader_that_gains_nothing_for_sure_is_told_as_such(tmp_path: Path) -> None:
    """.21 above .2, with an interval of .02 on both sides."""
    claim = _claim(tmp_path, *three_tasks({"a": 0.21, "b": 0.1}))
    assert claim.headline.endswith("; that it is above the best control is not told.")


def test_nothing_is_ranked_over_fewer_than_three_tasks(tmp_path: Path) -> None:
    results = three_tasks({"a": 0.8, "b": 0.4})[:2]
    claim = _claim(tmp_path, *results, make_failed(task="successor"))
    assert claim.headline == (
        "Nothing is ranked here: a ranking takes 3 tasks, and here there are 2."
    )


def test_of_several_leaders_those_that_gain_nothing_for_sure_are_named(tmp_path: Path) -> None:
    sure = three_tasks({"a": 0.6, "b": 0.1})
    claim = _claim(tmp_path, *sure, *three_tasks({"c": 0.21, "d": 0.1}, model="large"))
    assert claim.headline.endswith("; that large/c is above the best control is not told.")


def test_of_suites_that_are_not_ranked_the_next_stands_beside_the_first(tmp_path: Path) -> None:
    """.4 apart in both of two seeds of two tasks."""
    results = [
        make_result({"a": 0.8, "b": 0.4}, task=task, seed=seed)
        for task in ("ioi", "induction")
        for seed in (0, 1)
    ]
    beside = " ".join(_claim(tmp_path, *results).beside)
    assert "Beside it b 0.40 [0.40, 0.40] at L0 " in beside
    assert "; the first less it is +0.40 [+0.40, +0.40], in pairs over seeds." in beside


def test_seeds_are_no_tasks(tmp_path: Path) -> None:
    results = [make_result({"a": 0.8, "b": 0.4}, seed=seed) for seed in range(3)]
    claim = _claim(tmp_path, *results)
    assert "here there is 1" in claim.headline
    assert "t intervals over 3 seeds" in " ".join(claim.beside)


def test_a_suite_that_reaches_less_is_not_ranked_with_the_others(tmp_path: Path) -> None:
    tasks = ("ioi", "induction", "successor")
    results = [
        make_result({"narrow": 0.9, "wide": 0.5, "other": 0.4}, task=task, reach={"narrow": 0.3})
        for task in tasks
    ]
    assert "tiny/wide 0.50" in _claim(tmp_path, *results).headline


def test_a_suite_scored_on_fewer_tasks_is_not_ranked_with_the_others(tmp_path: Path) -> None:
    results = three_tasks({"often": 0.5, "too": 0.4, "once": 0.9})[:1]
    results += three_tasks({"often": 0.5, "too": 0.4, "once": None})[1:]
    assert "tiny/often 0.50" in _claim(tmp_path, *results).headline


def test_a_null_is_never_ranked(tmp_path: Path) -> None:
    suites = {"topk8": 0.5, "relu": 0.4, "topk8-soft-frozen-1": 0.9}
    claim = _claim(tmp_path, *three_tasks(suites))
    assert "tiny/topk8 0.50" in claim.headline
    assert "Ranked on tiny: 2 suites" in " ".join(claim.beside)


def test_suites_are_ranked_over_the_contrasts_that_all_of_them_have_on_the_same_nodes(
    tmp_path: Path,
) -> None:
    """Where b has a contrast on a group of nodes alone, only the other contrast is compared."""
    results = [
        make_result(
            {"a": 0.5, "b": 0.6},
            task=task,
            contrasts=("IO", "S"),
            grouped={"b": ("S",)},
        )
        for task in ("ioi", "induction", "successor")
    ]
    beside = " ".join(_claim(tmp_path, *results).beside)
    assert "Ranked on tiny: 2 suites over the 3 contrasts of 3 tasks" in beside


def test_where_no_contrast_is_shared_nothing_is_ranked(tmp_path: Path) -> None:
    results = [
        make_result({"a": 0.5, "b": 0.6}, task=task, grouped={"b": ("IO",)})
        for task in ("ioi", "induction", "successor")
    ]
    headline = _claim(tmp_path, *results).headline
    assert "no contrast has a score for all of them on the same nodes" in headline


def test_models_are_named_side_by_side_and_never_ranked(tmp_path: Path) -> None:
    small = three_tasks({"s": 0.4, "t": 0.3}, model="small")
    large = three_tasks({"s": 0.6, "t": 0.3}, model="large")
    claim = _claim(tmp_path, *small, *large)
    assert "small/s 0.40" in claim.headline
    assert "large/s 0.60" in claim.headline
    assert "Models are not ranked against each other" in claim.beside[-1]


def test_one_suite_alone_is_told_and_not_called_the_highest(tmp_path: Path) -> None:
    claim = _claim(tmp_path, *three_tasks({"a": 0.6}))
    assert claim.headline.startswith("tiny/a comes to an interpretable control (sage) of 0.60 [")
    assert "Highest" not in claim.headline


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
            "No suite has a sage score here.",
            "Undefined: no contrast has this score (IO: patching these nodes moves the metric",
        ),
        (
            make_result({"a": 0.5}, reach={"a": 0.0}),
            "No suite has a sage score here.",
            "no node of the section reads an SAE of this suite",
        ),
        (make_result({}), "No suite has a sage score here.", "Undefined: no suite was given."),
    ],
    ids=["gate", "undefined", "reach", "no suite"],
)
def test_where_there_is_no_claim_the_first_line_says_why(
    tmp_path: Path, result: Result, headline: str, beside: str
) -> None:
    claim = _claim(tmp_path, result)
    assert claim.headline == headline
    assert beside in claim.beside[0]
