"""Frontiers: planted parameters are found, with intervals that hold them as often as they say."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sage import fit_frontier
from sage.errors import SageError, SageWarning
from sage.frontier.curves import CURVES
from sage.frontier.fit import akaike, fit_points, make_points
from sage.stats import Sampled
from tests.frontier.planted import coverage, hits, warned

L0 = np.array([2.0, 4, 8, 16, 32, 64])


@pytest.mark.parametrize(("name", "params"), [
    ("hill", [-1.0, 0.7]), ("hill", [-1.0, 1.8]), ("hill1", [-0.5]),
    ("line", [0.01, 0.8]), ("line", [-0.004, 0.9]), ("power", [-0.7, 0.8]),
])  # fmt: skip
def test_planted_parameters_come_back_exactly(name: str, params: list[float]) -> None:
    planted = np.array([params])
    hit = np.exp(CURVES[name].log_y(planted, np.log(1 / L0)[None]))[0]
    frontier = fit_points(make_points(L0, hit), model=name)
    assert frontier.fits[name].params == pytest.approx(planted, rel=1e-5)
    assert fit_points(make_points(L0, hit)).model == name
    assert frontier.stray == pytest.approx(1)


def test_half_and_exponent_of_a_hill_curve() -> None:
    """With x_half = 1/4 and k = 2, L0 of 4 loses half, L0 of 8 a fifth, L0 of 2 four fifths."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frontier = fit_frontier(l0=[8, 4, 2, 1], hit=[1 / 5, 1 / 2, 4 / 5, 16 / 17], model="hill")
    assert frontier.half == pytest.approx(1 / 4)
    assert frontier.exponent == pytest.approx(2)
    assert frontier.hit_at(8).value == pytest.approx(0.2)
    low, high = frontier.interval()["half"]
    assert (low, high) == pytest.approx((1 / 4, 1 / 4))


def test_half_of_every_curve_is_where_half_is_lost() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SageWarning)
        for name in CURVES:
            frontier = fit_frontier(l0=L0, hit=hits(L0, half=0.3, k=0.9, noise=0.1), model=name)
            assert frontier.hit_at(1 / frontier.half).value == pytest.approx(0.5)
            assert np.isfinite(frontier.half)
    assert fit_points(frontier.points, model="hill1").exponent == 1
    assert fit_points(frontier.points, model="line").exponent is None


def test_hits_that_do_not_rise_with_sparsity_have_no_half() -> None:
    with pytest.warns(SageWarning, match="do not rise"):
        falling = fit_frontier(l0=[2, 4, 8, 16], hit=[0.1, 0.11, 0.12, 0.13], model="hill")
    assert falling.half == np.inf
    points = falling.points
    assert fit_points(points, model="line").half == np.inf
    assert fit_points(points, model="power").half == np.inf


def test_aicc_by_hand() -> None:
    """n = 8 and RSS = 2: 8 log(1/4); two parameters and the variance make p = 3: 6 + 24/4."""
    assert akaike(2.0, points=8, params=2) == pytest.approx(8 * np.log(1 / 4) + 6 + 6)
    assert akaike(2.0, points=8, params=1) == pytest.approx(8 * np.log(1 / 4) + 4 + 12 / 5)
    assert akaike(2.0, points=4, params=2) == np.inf
    assert np.isfinite(akaike(0.0, points=8, params=2))


def test_aicc_prefers_the_simpler_of_two_curves_that_fit_alike() -> None:
    """Four points cannot pay for a second parameter."""
    frontier = fit_points(make_points(L0[:4], hits(L0[:4], half=1, k=1, noise=0.05)))
    assert frontier.model == "hill1"
    assert frontier.aicc["hill"] == np.inf
    assert set(frontier.aicc) == {"hill", "hill1", "line", "power"}


def test_hits_without_a_logarithm_are_left_out_and_counted() -> None:
    l0 = [*L0, 100, 1]
    hit = [*hits(L0, half=0.5, k=1), -0.01, 1.2]
    frontier = fit_points(make_points(l0, hit), model="hill1")
    assert frontier.points.left_out == 2
    assert frontier.half == pytest.approx(0.5)


@pytest.mark.parametrize(("given", "message"), [
    ({"l0": [2, 4, 8], "hit": [0.3, 0.2, 0.1]}, "4 SAEs at 2 sparsities or more; here are 3 at 3"),
    ({"l0": [4, 4, 4, 4], "hit": [0.3, 0.2, 0.1, 0.2]}, "here are 4 at 1"),
    ({"l0": [2, 4, 8, 16], "hit": [0.3, 0.2, 0.1, -1]}, "1 left out"),
    ({"l0": [2, 4, 8, 0], "hit": [0.3, 0.2, 0.1, 0.1]}, "above 0"),
    ({"l0": [2, 4], "hit": [0.3]}, "2 L0 and 1 hits"),
    ({"l0": list(L0), "hit": [0.1] * 6, "model": "hil"}, "Did you mean 'hill'"),
    ({"l0": list(L0), "hit": [0.1] * 6, "over": "sequences"}, "no draws over sequences"),
    ({"l0": list(L0), "hit": [0.1] * 5 + [Sampled(0.1, np.full(9, 0.1), 3)]}, "all or none"),
    ({"l0": list(L0[:4]), "hit": [Sampled(0.1, np.full(9 + n, 0.1), 3) for n in range(4)]},
     "different counts of draws"),
])  # fmt: skip
def test_what_cannot_be_fitted_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(SageError, match=message):
        fit_frontier(**given)  # pyright: ignore[reportArgumentType]


def test_an_interval_has_a_level_between_0_and_1() -> None:
    frontier = fit_points(make_points(L0, hits(L0, half=0.3, k=1, noise=0.2)))
    narrow, wide = frontier.interval(0.5)["half"], frontier.interval(0.99)["half"]
    assert wide.low < narrow.low < frontier.half < narrow.high < wide.high
    with pytest.raises(SageError, match="between 0 and 1"):
        frontier.interval(95.0)


def test_models_of_different_width_share_an_axis() -> None:
    """At D/L0 of 8 half is gone, on a model of width 32 at L0 4, on one of 64 at L0 8."""
    width = np.array([32, 32, 32, 64, 64, 64])
    l0 = np.array([2.0, 4, 8, 4, 8, 16])
    frontier = fit_points(make_points(l0, 1 / (1 + 8 * l0 / width), width), model="hill")
    assert frontier.half == pytest.approx(8)
    assert frontier.hit_at(1 / 8).value == pytest.approx(0.5)


def test_intervals_follow_draws_over_sequences() -> None:
    """In each draw every hit is that of a curve with another x_half, between .2 and .4."""
    halves = np.linspace(0.2, 0.4, 201)
    sampled = [Sampled(1 / (1 + 0.3 * l0), 1 / (1 + halves * l0), 10) for l0 in L0]
    points = make_points(L0, sampled)
    frontier = fit_points(points, model="hill1", over="sequences")
    assert frontier.interval()["half"] == pytest.approx((0.205, 0.395), abs=0.002)
    # The points lie on the curve, so that SAEs trained anew would stray nowhere.
    low, high = fit_points(points, model="hill1", over="SAEs").interval()["half"]
    assert high - low < 1e-6
    both = fit_points(points, model="hill1")
    assert both.over == "both"
    assert both.interval()["half"] == pytest.approx((0.205, 0.395), abs=0.002)


def test_a_draw_leaves_out_hits_that_leave_the_axis() -> None:
    """In half of the draws one hit is negative; the others say the same."""
    draws = np.full((10, len(L0)), 1 / (1 + 0.3 * L0))
    draws[:5, -1] = -0.01
    sampled = [Sampled(1 / (1 + 0.3 * l0), draws[:, n], 10) for n, l0 in enumerate(L0)]
    frontier = fit_points(make_points(L0, sampled), model="hill1", over="sequences")
    assert frontier.draws == pytest.approx(np.full((10, 1), np.log(0.3)))


def test_a_half_far_outside_the_saes_is_said_to_be_an_extrapolation() -> None:
    """The sparsest SAE has L0 16: five times that sparsity is L0 3.2."""
    l0 = np.array([16.0, 32, 64, 128])
    near = fit_points(make_points(l0, hits(l0, half=1 / 3.3, k=1)), model="hill1")
    assert near.warning == ""
    with pytest.warns(SageWarning, match=r"L0 3\.1, which lies far outside .* has L0 16"):
        fit_frontier(l0=l0, hit=hits(l0, half=1 / 3.1, k=1), model="hill1")


@pytest.mark.parametrize("saes", [5, 8])
def test_intervals_over_saes_hold_the_planted_parameters_as_often_as_they_say(saes: int) -> None:
    """Of 50 simulated frontiers 47 or 48 should; fewer than 44 is rarer than 1 in 80."""
    held = coverage("SAEs", frontiers=50, saes=saes, seed=1)
    assert all(count >= 44 for count in held.values()), held


def test_intervals_over_sequences_hold_the_planted_parameters_as_often_as_they_say() -> None:
    held = coverage("sequences", frontiers=50, saes=6, seed=2)
    assert all(count >= 44 for count in held.values()), held


def test_the_warning_is_given_where_half_does_lie_far_outside() -> None:
    """Of 40 frontiers whose x_half is planted up to a hundred times outside the data."""
    told = warned(frontiers=40, saes=6, seed=3)
    given, due = [one for one in told if one.given], [one for one in told if one.due]
    assert min(len(given), len(due), 40 - len(due)) > 10
    assert sum(one.due for one in given) >= 0.9 * len(given)
    assert sum(one.given for one in due) >= 0.9 * len(due)
