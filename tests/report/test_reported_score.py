"""Means over tasks and seeds: worked by hand, and never over what is undefined."""

from __future__ import annotations

import pytest

from sage.report.reported_score import (
    ReportedScore,
    ScoreLine,
    best_in,
    covers,
    gain_in,
    mean_line,
    mean_over_tasks,
    mean_score,
    no_line,
    score_in,
)
from sage.result import BestControl, Row


def test_the_mean_of_two_tasks_has_the_error_of_independent_draws() -> None:
    """(.6 + .8)/2 = .7; sqrt(.03^2 + .04^2)/2 = .025; .7 -+ 1.96 x .025."""
    mean = mean_score(
        [
            ReportedScore(0.6, 0.54, 0.66, 0.03, 500, contrasts=3),
            ReportedScore(0.8, 0.72, 0.88, 0.04, 200, contrasts=1),
        ]
    )
    assert mean.value == pytest.approx(0.7)
    assert mean.stderr == pytest.approx(0.025)
    assert (mean.low, mean.high) == pytest.approx((0.651, 0.749), abs=1e-5)
    assert (mean.n, mean.tasks, mean.contrasts) == (200, 2, 4)
    assert str(mean) == "0.70 [0.65, 0.75]"


def test_one_task_alone_keeps_its_own_interval() -> None:
    alone = ReportedScore(0.6, 0.5, 0.61, 0.03, 500)
    assert mean_score([alone, ReportedScore(None, why="nothing moves")]) == alone


def test_the_interval_of_a_score_stays_within_0_and_1_that_of_a_gain_within_minus_1_and_1() -> None:
    pair = [ReportedScore(0.02, 0.0, 0.1, 0.05, 9), ReportedScore(0.0, 0.0, 0.1, 0.05, 9)]
    half = 1.959964 * 0.05 / 2**0.5
    assert mean_score(pair).low == 0.0
    assert mean_score(pair, least=-1.0).low == pytest.approx(0.01 - half)
    high = mean_score([score._replace(value=1.0) for score in pair]).high
    assert high == 1.0


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
    two_seeds = {0: ReportedScore(0.4, 0, 1, 0.1, 9), 1: ReportedScore(0.6, 0, 1, 0.1, 9)}
    one_seed = {0: ReportedScore(1.0, 0, 1, 0.1, 9)}
    mean = mean_over_tasks([two_seeds, one_seed])
    assert (mean.value, mean.tasks, mean.seeds) == (pytest.approx(0.75), 2, 1)
    assert mean.stderr == pytest.approx((0.1**2 / 2 + 0.1**2) ** 0.5 / 2)
    assert covers([mean]) == "over test prompts only"


def test_where_all_tasks_have_the_same_seeds_the_interval_is_a_t_interval_over_them() -> None:
    """Means over tasks by seed: .4, .5, .6; their sd is .1, t(2) is 4.3027, so .5 -+ .2484."""
    first = {seed: ReportedScore(0.3 + 0.1 * seed, 0, 1, 0.001, 9) for seed in range(3)}
    second = {seed: ReportedScore(0.5 + 0.1 * seed, 0, 1, 0.001, 9) for seed in range(3)}
    mean = mean_over_tasks([first, second])
    assert (mean.value, mean.seeds, mean.tasks) == (pytest.approx(0.5), 3, 2)
    assert mean.stderr == pytest.approx(0.1 / 3**0.5)
    assert mean.low == pytest.approx(0.5 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert mean.high == pytest.approx(0.5 + 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert covers([mean]) == "t intervals over 3 seeds"


def test_a_seed_without_a_score_leaves_the_interval_to_the_prompts() -> None:
    task = {0: ReportedScore(0.4, 0, 1, 0.1, 9), 1: ReportedScore(0.6, 0, 1, 0.1, 9)}
    other = {0: ReportedScore(0.4, 0, 1, 0.1, 9), 1: ReportedScore(None, why="lost")}
    assert mean_over_tasks([task, other]).seeds == 1


def test_a_row_without_a_value_keeps_its_reason() -> None:
    status = "undefined: the patch changes nothing"
    row = Row("IO", "s", "s", "control", "IO", None, 7, status=status)
    assert score_in(row) == ReportedScore(None, n=7, why="the patch changes nothing")
    assert score_in(row).status == status
    assert best_in(row).value is None
    assert gain_in(row).value is None


def test_a_row_gives_its_best_control_and_the_gain_with_the_error_of_its_interval() -> None:
    """An interval from .1 to .492 is 2 x 1.96 x .1 wide."""
    row = Row("IO", "s", "s", "control", "IO", 0.5, 7, best_control=BestControl("PCA", 0.2))
    gain = gain_in(
        Row("IO", "s", "s", "control", "IO", 0.5, 7, gain=0.3, gain_low=0.1, gain_high=0.492)
    )
    assert best_in(row).value == 0.2
    assert (gain.value, gain.low, gain.high) == (0.3, 0.1, 0.492)
    assert gain.stderr == pytest.approx(0.1, abs=1e-4)


def test_a_line_over_tasks_is_the_mean_of_each_of_its_parts() -> None:
    def line(score: float, best: float, control: str) -> ScoreLine:
        numbers = (score, best, score - best, 1.0)
        return ScoreLine(*(ReportedScore(number, n=9) for number in numbers), control)

    tasks = [{0: line(0.6, 0.2, "PCA")}, {0: line(0.8, 0.4, "task lookup")}]
    mean = mean_line([*tasks, {0: no_line("gate")}])
    parts = (mean.score, mean.best, mean.gain, mean.supervised)
    assert [part.value for part in parts] == pytest.approx([0.7, 0.3, 0.4, 1.0])
    assert {part.tasks for part in parts} == {2}
    assert mean.control == ""
