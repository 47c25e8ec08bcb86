"""Noise over seeds of scored results, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from report.by_hand import make_result, summaries, with_scores
from sage.report.noise import noise_rows, paired

SCORES = [{"a": 0.5, "b": 0.3}, {"a": 0.7, "b": 0.52}, {"a": 0.6, "b": 0.38}]


def test_noise_of_each_suite(tmp_path: Path) -> None:
    """a: .5 .7 .6, sd .1, so one run each tells .277, and .05 takes 7.85 x 2 x .01 / .0025 = 63."""
    results = [make_result(scores, seed=seed) for seed, scores in enumerate(SCORES)]
    first = noise_rows(summaries(tmp_path, *results))[0]
    assert (first["task"], first["suite"], first["seeds"]) == ("ioi", "a", 3)
    assert first["sd"] == pytest.approx(0.1)
    assert first["one run tells"] == pytest.approx(0.277)
    assert first["seeds for .05"] == 63


def test_noise_is_over_the_contrasts_that_every_seed_has(tmp_path: Path) -> None:
    """On gender .6 and .7; seed 1 has no name, so that the .2 there has no part in it."""
    whole = with_scores(make_result({"a": 0.4}, contrasts=("gender", "name")),
                        {"a": {"gender": 0.6, "name": 0.2}})  # fmt: skip
    lost = make_result({"a": 0.7}, contrasts=("gender", "name"), lost={"a": ["name"]}, seed=1)
    [row] = noise_rows(summaries(tmp_path, whole, lost))
    assert row["mean"] == pytest.approx(0.65)
    assert row["sd"] == pytest.approx(0.1 / math.sqrt(2))


def test_a_difference_as_small_as_its_noise_takes_many_seeds() -> None:
    """.02 -.02 .03: mean .01, sd sqrt(.0014 / 2), so 7.85 x .0007 / .0001 = 54.95 seeds."""
    drawn = paired([0.02, -0.02, 0.03])
    assert drawn.over.low < 0 < drawn.over.high
    assert drawn.over.sd == pytest.approx(math.sqrt(0.0007))
    assert drawn.needed_here == 55


def test_one_seed_has_no_noise(tmp_path: Path) -> None:
    assert noise_rows(summaries(tmp_path, make_result(SCORES[0]))) == []
