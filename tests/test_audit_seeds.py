"""Noise over seeds of scored results, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sage.audit.seed_noise import difference_rows, noise_rows
from sage.result import ALL, MAIN, Result, Row
from small_results import RUN, result


def scored(seed: int, **values: float) -> Result:
    made = result(*values, run=replace(RUN, seed=seed))
    rows = [Row(ALL, suite, suite, MAIN, ALL, value, 50) for suite, value in values.items()]
    return replace(made, rows=rows)


SEEDS = [scored(0, a=0.5, b=0.3), scored(1, a=0.7, b=0.52), scored(2, a=0.6, b=0.38)]


def test_noise_of_each_suite() -> None:
    """a: .5 .7 .6, sd .1, so one run each tells .277, and .05 takes 7.85 x 2 x .01 / .0025 = 63."""
    first = noise_rows(SEEDS)[0]
    assert (first["task"], first["suite"], first["seeds"]) == ("ioi", "a", 3)
    assert first["sd"] == pytest.approx(0.1)
    assert first["one run tells"] == pytest.approx(0.277)
    assert first["seeds for .05"] == 63


def test_differences_are_paired_by_seed() -> None:
    """.2 .18 .22: sd .02 where each suite's is .1. 7.85 (.02 / .05)^2 = 1.3, so 2 are enough."""
    [row] = difference_rows(SEEDS)
    assert (row["suite"], row["less"]) == ("a", "b")
    assert row["difference"] == pytest.approx(0.2)
    assert row["sd"] == pytest.approx(0.02)
    assert row["told apart"] is True
    assert (row["seeds for .05"], row["seeds for it"]) == (2, 2)


def test_a_difference_as_small_as_its_noise_is_not_told() -> None:
    """.02 -.02 .03: mean .01, sd sqrt(.0014 / 2), so 7.85 x .0007 / .0001 = 54.95 seeds."""
    seeds = [scored(n, a=0.5 + gap, b=0.5) for n, gap in enumerate((0.02, -0.02, 0.03))]
    [row] = difference_rows(seeds)
    assert row["told apart"] is False
    assert row["sd"] == pytest.approx(math.sqrt(0.0007))
    assert row["seeds for it"] == 55


def test_one_seed_has_no_noise() -> None:
    assert noise_rows(SEEDS[:1]) == []
    assert difference_rows(SEEDS[:1]) == []
