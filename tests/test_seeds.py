"""Several seeds of one task: means, deviations and t intervals worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sage.result import BestControl, Result, Row
from sage.seeds import over_seeds, seed_rows, seed_values
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
    assert seed_values(results, "a", "a", "interpretable") == [0.4, 0.6]
    (row,) = seed_rows(results)
    assert row["seeds"] == 2


def test_every_task_and_suite_has_a_row_with_the_gain_seed_by_seed() -> None:
    """The gains are .1 and .3 whatever the scores are."""
    results = [
        redrawn(0, {"a": 0.4, "b": 0.1}, gain=0.1),
        redrawn(1, {"a": 0.6, "b": 0.2}, gain=0.3),
        redrawn(0, {"a": 0.9}, task="other"),
    ]
    rows = seed_rows(results)
    told = [(row["task"], row["suite"], row["sage"], row["seeds"]) for row in rows]
    half = 12.7062 * math.sqrt(0.02 / 2)
    assert told == [
        ("ioi", "a", f"0.50 [{0.5 - half:.2f}, {0.5 + half:.2f}]", 2),
        ("ioi", "b", str(over_seeds([0.1, 0.2])), 2),
        ("other", "a", "0.90 [nan, nan]", 1),
    ]
    assert rows[0]["gain"] == str(over_seeds([0.1, 0.3]))
    assert rows[0]["sd"] == pytest.approx(math.sqrt(0.02))
    assert rows[2]["sd"] is None
    assert rows[0]["T2"] is None


def test_one_task_on_two_models_is_not_mixed_up() -> None:
    first = redrawn(0, {"a": 0.4})
    other = replace(first, model=replace(first.model, name="other"))
    assert [row["seeds"] for row in seed_rows([first, other])] == [1, 1]
