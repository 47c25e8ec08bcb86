"""Ratios of two frontiers, and dominated SAEs, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sage.errors import SageError
from sage.frontier.dominated import dominated
from sage.frontier.fit import Frontier, fit_points, make_points
from sage.frontier.ratio import compare_frontiers
from sage.stats import Sampled

L0 = np.array([4.0, 8, 16, 32, 64])


def power(scale: float, exponent: float = 0.5, *, l0: np.ndarray = L0, noise: float = 0.0,
          seed: int = 0) -> Frontier:  # fmt: skip
    strays = np.random.default_rng(seed).normal(size=len(l0)) * noise
    hit = scale * l0**-exponent * np.exp(strays)
    return fit_points(make_points(l0, hit), model="power", seed=seed)


def test_ratios_of_power_laws_by_hand() -> None:
    """Three times the hit at every L0; with exponent 1/2 nine times the latents for a hit."""
    ratio = compare_frontiers(("relu", "gated"), power(0.6), power(0.2))
    assert ratio.hits.value == pytest.approx(3)
    assert ratio.latents.value == pytest.approx(9)
    assert (ratio.latents.low, ratio.latents.high) == pytest.approx((9, 9), rel=1e-4)
    assert ratio.sentence == (
        "gated needs 9 times fewer latents than relu for the same hit (95 % 9 to 9, over SAEs)."
    )
    turned = compare_frontiers(("gated", "relu"), power(0.2), power(0.6))
    assert turned.latents.value == pytest.approx(1 / 9)
    assert turned.sentence == ratio.sentence


def test_no_difference_is_claimed_where_the_interval_holds_1() -> None:
    ratio = compare_frontiers(
        ("relu", "gated"), power(0.4, noise=0.3, seed=1), power(0.42, noise=0.3, seed=2)
    )
    assert ratio.latents.low < 1 < ratio.latents.high
    assert ratio.sentence.startswith("No difference shown: for the same hit relu needs")


def test_nothing_is_compared_where_nothing_is_shared() -> None:
    """One has L0 from 4 to 64, the other from 400 to 6400, and hits a tenth of the first's."""
    apart = power(0.2, l0=100 * L0)
    ratio = compare_frontiers(("relu", "gated"), power(0.6), apart)
    assert np.isnan(ratio.hits.value)
    assert np.isnan(ratio.latents.value)
    assert ratio.sentence == "relu and gated have no hit in common: no ratio of latents."


def test_draws_over_the_same_sequences_are_paired() -> None:
    """All hits of both double in half of the resamples: the ratio does not move."""
    factor = np.repeat([1.0, 2.0], 50)

    def drawn(scale: float) -> Frontier:
        hit = [Sampled(scale * l0**-0.5, scale * l0**-0.5 * factor, 9) for l0 in L0]
        return fit_points(make_points(L0, hit), model="power", over="sequences")

    ratio = compare_frontiers(("relu", "gated"), drawn(0.3), drawn(0.1))
    assert ratio.hits[:4] == pytest.approx((3, 0, 3, 3), abs=1e-6)
    assert "sequences alone" in ratio.sentence
    with pytest.raises(SageError, match="over different things"):
        compare_frontiers(("relu", "gated"), drawn(0.3), power(0.1))


def test_dominated_saes_by_hand() -> None:
    """(4, .3) beats (8, .3) and (4, .4); (8, .1) is beaten by none, nor are two that are equal."""
    l0 = [4, 8, 4, 8, 4]
    hit = [0.3, 0.3, 0.4, 0.1, 0.3]
    assert dominated(l0, hit) == [False, True, True, False, False]
    assert dominated([1], [0.5]) == [False]
