"""Curves: their slopes are derivatives, and what inverts them does."""

from __future__ import annotations

import numpy as np
import pytest

from sage.cli.fitting import CURVE_NAMES
from sage.frontier.curves import CURVES, weighted_line
from sage.frontier.least_squares import fit_curve

PARAMS = {
    "hill": [[-1.0, 0.7], [0.5, 1.6]],
    "hill1": [[-1.0], [0.5]],
    "line": [[0.02, 0.7], [0.1, 0.4]],
    "power": [[-0.5, 0.8], [-1.0, 1.2]],
}
LOG_X = np.log(1 / np.array([[2.0, 8, 32, 100]]))


def test_the_command_offers_every_curve() -> None:
    assert set(CURVE_NAMES) == set(CURVES) == set(PARAMS)


@pytest.mark.parametrize("name", PARAMS)
def test_slopes_are_derivatives_by_parameter(name: str) -> None:
    curve, params = CURVES[name], np.array(PARAMS[name])
    slopes = curve.slopes(params, LOG_X)
    for parameter in range(curve.params):
        step = np.zeros(curve.params)
        step[parameter] = 1e-6
        difference = curve.log_y(params + step, LOG_X) - curve.log_y(params - step, LOG_X)
        assert slopes[..., parameter] == pytest.approx(difference / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", PARAMS)
def test_sparsity_is_found_back_from_the_hit(name: str) -> None:
    curve, params = CURVES[name], np.array(PARAMS[name])
    log_x = np.broadcast_to(LOG_X, (2, 4))
    assert curve.log_x(params, curve.log_y(params, log_x)) == pytest.approx(log_x)


@pytest.mark.parametrize("name", PARAMS)
def test_half_of_the_performance_is_gone_at_half(name: str) -> None:
    curve, params = CURVES[name], np.array(PARAMS[name])
    half = curve.values(params)["half"]
    assert np.exp(curve.log_y(params, np.log(half)[:, None])[:, 0]) == pytest.approx([0.5, 0.5])


def test_a_weighted_line_by_hand() -> None:
    """Through (0, 1) and (2, 5) alone, as the third point weighs nothing: 1 + 2 x."""
    line = weighted_line(np.array([[0.0, 2, 1]]), np.array([[1.0, 5, 9]]), np.array([[1.0, 1, 0]]))
    assert line == pytest.approx(np.array([[1, 2]]))


@pytest.mark.parametrize("name", PARAMS)
def test_least_squares_is_a_minimum(name: str) -> None:
    """No small step of any parameter lowers the sum of squares."""
    curve = CURVES[name]
    log_y = np.log([[0.3, 0.15, 0.02, 0.012], [0.4, 0.1, 0.05, 0.009]])
    weight = np.array([[1.0, 1, 1, 1], [1, 2, 0.5, 1]])
    fits = fit_curve(curve, LOG_X, log_y, weight)

    def rss(params: np.ndarray) -> np.ndarray:
        return (weight * (log_y - curve.log_y(params, LOG_X)) ** 2).sum(-1)

    assert fits.rss == pytest.approx(rss(fits.params))
    for parameter in range(curve.params):
        for sign in (1, -1):
            step = np.zeros(curve.params)
            step[parameter] = sign * 1e-4
            assert (rss(fits.params + step) >= fits.rss).all()


def test_a_point_of_no_weight_and_a_draw_without_enough_points() -> None:
    log_y = np.array([[-1.0, -2, -3, -50], [-1, -2, -3, -4]])
    weight = np.array([[1.0, 1, 1, 0], [1, 0, 0, 0]])
    fits = fit_curve(CURVES["power"], LOG_X, log_y, weight)
    assert fits.params[0] == pytest.approx(
        weighted_line(LOG_X[:, :3], log_y[:1, :3], np.ones((1, 3)))[0]
    )
    assert np.isnan(fits.params[1]).all()
    assert np.isnan(fits.rss[1])
