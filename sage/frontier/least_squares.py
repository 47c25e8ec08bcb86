"""Least squares on log y of one curve to many draws of the same points at once.

Levenberg and Marquardt's method (Marquardt 1963, J. SIAM 11, 431): steps are damped until they
lower the sum of squares.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.frontier.curves import Curve, Logs, Params, Values

_STEPS = 200
_ENOUGH = 1e-13
_MOST_DAMPING = 1e9


class Fits(NamedTuple):
    """Parameters of each draw, and the weighted sum of squared residuals; NaN where a draw has
    points at fewer sparsities than the curve has parameters."""

    params: Params
    rss: Values


def fit_curve(
    curve: Curve, log_x: Logs, log_y: Float[np.ndarray, "draw point"], weight: Logs
) -> Fits:
    """The parameters of least squares; a point of weight 0 is left out of its draw."""
    log_x = np.broadcast_to(log_x, log_y.shape)
    weight = np.broadcast_to(weight, log_y.shape)
    enough = _sparsities(log_x, weight) >= curve.params
    params = np.full((len(log_y), curve.params), np.nan)
    rss = np.full(len(log_y), np.nan)
    if enough.any():
        params[enough], rss[enough] = _descend(
            curve, log_x[enough], np.where(weight > 0, log_y, -1.0)[enough], weight[enough]
        )
    return Fits(params, rss)


def _descend(curve: Curve, log_x: Logs, log_y: Logs, weight: Logs) -> Fits:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        params = curve.start(log_x, log_y, weight)
        rss = _rss(curve, params, log_x, log_y, weight)
        damping = np.full(len(params), 1e-3)
        moving = np.isfinite(rss)
        for _ in range(_STEPS):
            if not moving.any():
                break
            at = np.flatnonzero(moving)
            here = (log_x[at], log_y[at], weight[at])
            moved = params[at] + _step(curve, params[at], *here, damping[at])
            lowered = _rss(curve, moved, *here)
            better = lowered < rss[at]
            little = better & (rss[at] - lowered <= _ENOUGH * rss[at])
            params[at] = np.where(better[:, None], moved, params[at])
            rss[at] = np.where(better, lowered, rss[at])
            damping[at] *= np.where(better, 0.2, 5.0)
            moving[at] = ~little & (damping[at] < _MOST_DAMPING)
    return Fits(params, rss)


def _step(
    curve: Curve, params: Params, log_x: Logs, log_y: Logs, weight: Logs, damping: Values
) -> Params:
    """The damped Gauss-Newton step of each draw."""
    residual = log_y - curve.log_y(params, log_x)
    slopes = curve.slopes(params, log_x)
    normal = np.einsum("dpi,dp,dpj->dij", slopes, weight, slopes)
    gradient = np.einsum("dpi,dp,dp->di", slopes, weight, residual)
    size = np.arange(curve.params)
    diagonal = normal[:, size, size]
    normal[:, size, size] += damping[:, None] * diagonal + 1e-12 * diagonal.max(-1, keepdims=True)
    normal[:, size, size] += np.finfo(float).tiny
    return np.linalg.solve(normal, gradient[..., None])[..., 0]


def _rss(curve: Curve, params: Params, log_x: Logs, log_y: Logs, weight: Logs) -> Values:
    return (weight * (log_y - curve.log_y(params, log_x)) ** 2).sum(-1)


def _sparsities(log_x: Logs, weight: Logs) -> Values:
    """At how many different sparsities each draw has points."""
    _, numbers = np.unique(log_x, return_inverse=True)
    numbers = numbers.reshape(log_x.shape)
    seen = np.zeros((len(log_x), numbers.max(initial=0) + 1))
    rows = np.broadcast_to(np.arange(len(log_x))[:, None], numbers.shape)
    np.maximum.at(seen, (rows, numbers), (weight > 0).astype(float))
    return seen.sum(-1)
