"""Means over tasks: worked by hand, and never over what is undefined."""

from __future__ import annotations

import pytest

from sage.report.reported_score import ReportedScore, mean_over_tasks, mean_score, score_in
from sage.result import Row


def test_the_mean_of_two_tasks_has_the_error_of_independent_draws() -> None:
    """(.6 + .8)/2 = .7; sqrt(.03^2 + .04^2)/2 = .025; .7 -+ 1.96 x .025."""
    mean = mean_score(
        [ReportedScore(0.6, 0.54, 0.66, 0.03, 500), ReportedScore(0.8, 0.72, 0.88, 0.04, 200)]
    )
    assert mean.value == pytest.approx(0.7)
    assert mean.stderr == pytest.approx(0.025)
    assert (mean.low, mean.high) == pytest.approx((0.651, 0.749), abs=1e-5)
    assert (mean.n, mean.tasks) == (200, 2)
    assert str(mean) == "0.70 [0.65, 0.75]"


def test_one_task_alone_keeps_its_own_interval() -> None:
    alone = ReportedScore(0.6, 0.5, 0.61, 0.03, 500)
    assert mean_score([alone, ReportedScore(None, why="nothing moves")]) == alone


def test_the_interval_stays_within_what_a_score_can_be() -> None:
    mean = mean_score(
        [ReportedScore(1.0, 0.9, 1.0, 0.05, 9), ReportedScore(0.98, 0.9, 1.0, 0.05, 9)]
    )
    assert mean.high == 1.0
    assert mean.low == pytest.approx(0.99 - 1.959964 * 0.05 / 2**0.5)


def test_no_interval_is_made_up_where_a_task_has_none() -> None:
    mean = mean_score([ReportedScore(0.6, n=9), ReportedScore(0.8, 0.7, 0.9, 0.05, 9)])
    assert (mean.value, mean.interval) == (pytest.approx(0.7), None)


def test_where_nothing_is_defined_every_reason_is_said_once() -> None:
    mean = mean_score(
        [ReportedScore(None, why="a"), ReportedScore(None, why="b"), ReportedScore(None, why="a")]
    )
    assert (mean.value, mean.why, mean.tasks, str(mean)) == (None, "a; b", 0, "undefined")


def test_seeds_are_averaged_before_tasks() -> None:
    """Task one: (.4 + .6)/2 = .5; with task two at 1 the mean is .75, not (.4 + .6 + 1)/3."""
    two_seeds = [ReportedScore(0.4, 0, 1, 0.1, 9), ReportedScore(0.6, 0, 1, 0.1, 9)]
    one_seed = [ReportedScore(1.0, 0, 1, 0.1, 9)]
    mean = mean_over_tasks([two_seeds, one_seed])
    assert (mean.value, mean.tasks) == (pytest.approx(0.75), 2)
    assert mean.stderr == pytest.approx((0.1**2 / 2 + 0.1**2) ** 0.5 / 2)


def test_a_row_without_a_value_keeps_its_reason() -> None:
    status = "undefined: the patch changes nothing"
    row = Row("IO", "s", "s", "T2", "IO", None, 7, status=status)
    assert score_in(row) == ReportedScore(None, n=7, why="the patch changes nothing")
    assert score_in(row).status == status
