"""Intervals cover what they should, and numbers from the same prompts move together."""

from __future__ import annotations

import numpy as np
import pytest

from sage.stats import Sampled, average, bootstrap, combine, constant, mean, resamples


def test_a_mean_has_the_textbook_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    estimate = mean(values).estimate()
    stderr = values.std() / 20
    assert estimate.value == pytest.approx(values.mean(), abs=1e-12)
    assert estimate.stderr == pytest.approx(stderr, rel=0.06)
    assert estimate.low == pytest.approx(estimate.value - 1.96 * stderr, abs=0.15 * estimate.stderr)
    assert estimate.n == 400


def test_the_interval_covers_the_truth_in_95_of_100_samples() -> None:
    """Means of 100 coins that fall heads in 30 %.

    300 samples, so the share covered is .95 with a standard error of .013.
    """
    generator = np.random.default_rng(1)
    intervals = [
        mean((generator.random(100) < 0.3).astype(float), seed=seed).estimate()
        for seed in range(300)
    ]
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in intervals])
    assert 0.91 < covered < 0.985


def test_the_interval_of_a_ratio_covers_the_truth() -> None:
    """E y / E x = 2 with y = 2 x + noise, n = 80."""
    generator = np.random.default_rng(2)
    covered = []
    for seed in range(200):
        x = 1 + generator.random(80)
        columns = np.stack([2 * x + generator.normal(size=80), x], -1)
        ratio = bootstrap(columns, lambda means: means[:, 0] / means[:, 1], seed=seed).estimate()
        covered.append(ratio.low <= 2 <= ratio.high)
    assert 0.90 < np.mean(covered) < 0.985


def test_draws_of_two_numbers_on_the_same_prompts_are_paired() -> None:
    """One dictionary is better by exactly .1 on every prompt.

    So is it in every draw, and the difference has no error.
    """
    generator = np.random.default_rng(3)
    values = generator.normal(size=50)
    names = [f"p{number}" for number in range(50)]
    worse = mean(values, seed=7, clusters=names)
    better = mean(values + 0.1, seed=7, clusters=names)
    difference = combine(lambda high, low: high - low, better, worse)
    np.testing.assert_allclose(better.draws - worse.draws, 0.1, atol=1e-12)
    assert difference.estimate().stderr == pytest.approx(0, abs=1e-12)
    assert worse.estimate().stderr > 0.05


def test_a_combination_is_the_function_of_values_and_of_draws() -> None:
    raw, floor, ceiling = (
        Sampled(value, np.array(draws), n)
        for value, draws, n in ((0.5, [0.4, 0.6], 9), (0.1, [0.0, 0.2], 7), (0.9, [0.8, 1.0], 8))
    )
    share = combine(lambda value, low, high: (value - low) / (high - low), raw, floor, ceiling)
    assert share.value == pytest.approx(0.5)
    np.testing.assert_allclose(share.draws, [0.5, 0.5])
    assert share.n == 7
    np.testing.assert_allclose(
        average([raw, floor, ceiling], [1.0, 2.0, 1.0]).draws,
        [(0.4 + 0 + 0.8) / 4, (0.6 + 0.4 + 1.0) / 4],
    )
    assert average([raw, floor, ceiling]).value == pytest.approx(0.5)


def test_copies_of_a_prompt_enter_together() -> None:
    """25 texts four times, with one value each: the error is that of 25 values, not of 100."""
    values = np.random.default_rng(4).normal(size=25)
    names = [f"p{number}" for number in range(25)] * 4
    weights = resamples(100, seed=0, clusters=names)
    assert (weights[:, :25] == weights[:, 25:50]).all()
    clustered = mean(np.tile(values, 4), clusters=names).estimate()
    assert clustered.stderr == pytest.approx(values.std() / 5, rel=0.07)
    assert mean(np.tile(values, 4)).estimate().stderr == pytest.approx(values.std() / 10, rel=0.07)


def test_unequal_clusters_are_weighed_by_their_prompts() -> None:
    """A literal twin: the mean of a resample counts every prompt of every cluster drawn."""
    names = ["b", "a", "a", "c", "a", "c"]
    values = np.array([1.0, 2, 4, 8, 16, 32])
    weights = resamples(6, seed=5, clusters=names)
    clustered = mean(values, seed=5, clusters=names)
    expected = []
    for row in weights:
        drawn = [weight * value for weight, value in zip(row, values, strict=True)]
        expected.append(sum(drawn) / sum(row))
    np.testing.assert_allclose(clustered.draws, expected)
    assert clustered.value == pytest.approx(63 / 6)
    assert {sum(row[[0, 1, 3]]) for row in weights} == {3}
    assert set(weights.ravel()) <= {0, 1, 2, 3}


def test_every_resample_has_as_many_prompts_as_there_are() -> None:
    weights = resamples(40, seed=0)
    assert (weights.sum(1) == 40).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)
    assert not np.array_equal(weights, resamples(40, seed=1))
    assert np.array_equal(weights, resamples(40, seed=0))


def test_the_order_of_named_prompts_does_not_matter() -> None:
    values = np.random.default_rng(6).normal(size=30)
    names = [f"p{number}" for number in range(30)]
    order = np.random.default_rng(7).permutation(30)
    listed = mean(values, clusters=names)
    reordered = mean(values[order], clusters=[names[row] for row in order])
    assert listed.value == reordered.value
    assert np.array_equal(listed.draws, reordered.draws)


def test_a_number_undefined_in_most_draws_has_no_interval() -> None:
    ratio = bootstrap(
        np.array([[0.0, 0.0]] * 9 + [[1.0, 1.0]]), lambda means: means[:, 0] / means[:, 1]
    )
    assert ratio.value == 1
    assert np.isfinite(ratio.estimate().low)
    rare = Sampled(1.0, np.array([1.0, np.nan, np.nan]), 3).estimate()
    assert (rare.value, rare.n) == (1.0, 3)
    assert np.isnan([rare.stderr, rare.low, rare.high]).all()


def test_a_constant_does_not_move() -> None:
    assert constant(0.3, n=5).estimate() == (0.3, pytest.approx(0, abs=1e-12), 0.3, 0.3, 5)
