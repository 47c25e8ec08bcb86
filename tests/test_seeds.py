"""Several seeds of one task: means, deviations and t intervals worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sage.result import BestControl, Result, Row, SectionInfo
from sage.seeds import contrasts_by_seed, over_seeds, seed_rows
from small_results import result


def redrawn(
    seed: int, scores: dict[str, float | None], *, task: str = "ioi", gain: float = 0.1
) -> Result:
    """A seed's summary: the main score of every suite, and its gain."""
    made = result(*scores)
    rows = [
        Row(
            "*", suite, suite, "interpretable", "*", value, 50, version=2, seed=seed,
            best_control=BestControl("PCA", 0.1), gain=None if value is None else gain,
            status="ok" if value is not None else "undefined: nothing",
        )
        for suite, value in scores.items()
    ]  # fmt: skip
    told = replace(made.task, name=task)
    return replace(made, rows=rows, task=told, run=replace(made.run, seed=seed))


def test_the_interval_is_a_t_interval_over_seeds() -> None:
    """.2 .4 .6 .8: mean .5, sd sqrt(.2/3) = .258, t at 3 degrees 3.182, half .411."""
    told = over_seeds([0.2, 0.4, 0.6, 0.8])
    assert (told.mean, told.seeds) == (pytest.approx(0.5), 4)
    assert told.sd == pytest.approx(math.sqrt(0.2 / 3))
    half = 3.182446 * math.sqrt(0.2 / 3) / 2
    assert (told.low, told.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)
    assert str(told) == "0.50 [0.09, 0.91]"


def test_one_seed_has_neither_deviation_nor_interval() -> None:
    told = over_seeds([0.3])
    assert (told.mean, told.seeds) == (0.3, 1)
    assert math.isnan(told.sd)
    assert math.isnan(told.low)


def test_a_seed_in_which_a_score_is_undefined_is_left_out() -> None:
    results = [redrawn(0, {"a": 0.4}), redrawn(1, {"a": None}), redrawn(2, {"a": 0.6})]
    (row,) = seed_rows(results)
    assert row["seeds"] == 2
    assert row["sage"] == pytest.approx(0.5)
    assert row["sd"] == pytest.approx(math.sqrt(0.02))


def test_an_interval_of_three_seeds_by_hand() -> None:
    """.4 .5 .6: sd .1, t(2) = 4.3027, so half of it is 4.3027 x .1 / sqrt 3."""
    (row,) = seed_rows([redrawn(seed, {"a": 0.4 + 0.1 * seed}) for seed in range(3)])
    half = 4.3027 * 0.1 / math.sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-4)


def test_every_task_and_suite_has_a_row_with_the_gain_seed_by_seed() -> None:
    """The gains are .1 and .3 whatever the scores are: an interval is cut to what a score, and a
    gain, can be."""
    results = [
        redrawn(0, {"a": 0.4, "b": 0.1}, gain=0.1),
        redrawn(1, {"a": 0.6, "b": 0.2}, gain=0.3),
        redrawn(0, {"a": 0.9}, task="other"),
    ]
    rows = seed_rows(results)
    told = [(row["task"], row["suite"], row["sage"], row["seeds"]) for row in rows]
    half = 12.7062 * math.sqrt(0.02 / 2)
    assert told == [
        ("ioi", "a", pytest.approx(0.5), 2),
        ("ioi", "b", pytest.approx(0.15), 2),
        ("other", "a", pytest.approx(0.9), 1),
    ]
    assert (rows[0]["low"], rows[0]["high"]) == (0.0, 1.0)
    assert half > 0.5
    assert rows[0]["gain"] == pytest.approx(0.2)
    assert rows[0]["gain low"] == pytest.approx(-1.0)
    assert rows[0]["gain high"] == pytest.approx(1.0)
    assert rows[0]["sd"] == pytest.approx(math.sqrt(0.02))
    assert rows[2]["sd"] is None
    assert rows[0]["T2"] is None


def test_one_seed_alone_keeps_its_own_interval_over_prompts() -> None:
    """As the report shows it: no t interval can be made of one number."""
    made = redrawn(0, {"a": 0.9})
    (main,) = made.rows
    bounded = replace(made, rows=[replace(main, low=0.8, high=0.95, gain_low=0.0, gain_high=0.2)])
    (row,) = seed_rows([bounded])
    assert (row["low"], row["high"], row["gain low"], row["gain high"]) == (0.8, 0.95, 0.0, 0.2)


def test_each_seed_says_which_contrasts_its_mean_is_over() -> None:
    made = redrawn(0, {"a": 0.4})
    sections = [SectionInfo(name, name, ["0.mlp_in@END"], 1.0) for name in ("IO", "S")]
    lost = Row("S", "a", "a", "interpretable", "S", None, 3, version=2, status="undefined: flat")
    both = replace(made, sections=sections)
    one = replace(both, rows=[*made.rows, lost], run=replace(made.run, seed=1))
    assert contrasts_by_seed([both, one], "a") == {0: ("IO", "S"), 1: ("IO",)}


def test_one_task_on_two_models_is_not_mixed_up() -> None:
    first = redrawn(0, {"a": 0.4})
    other = replace(first, model=replace(first.model, name="other"))
    assert [row["seeds"] for row in seed_rows([first, other])] == [1, 1]
