"""Curves that a frontier may follow: the performance hit y as a function of sparsity x, on logs.

Method, section 8. The Hill curve and the axes are from "How to Better Report Sparse Autoencoder
Performance" (Bostock, LessWrong).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Params = Float[np.ndarray, "draw param"]
Logs = Float[np.ndarray, "#draw point"]
Values = Float[np.ndarray, "draw"]


class Curve(NamedTuple):
    """One family of curves; every function works on many sets of parameters at once.

    `start` guesses parameters from log x, log y and weights, `log_y` and `slopes` are the curve and
    its derivatives by parameter, `log_x` inverts it, `values` names what is reported.
    """

    name: str
    title: str
    params: int
    start: Callable[[Logs, Logs, Logs], Params]
    log_y: Callable[[Params, Logs], Logs]
    slopes: Callable[[Params, Logs], Float[np.ndarray, "draw point param"]]
    log_x: Callable[[Params, Logs], Logs]
    values: Callable[[Params], dict[str, Values]]


def weighted_line(x: Logs, y: Logs, weight: Logs) -> Params:
    """Intercept and slope of the weighted least-squares line of each draw."""
    total = weight.sum(-1)
    centre_x, centre_y = (weight * x).sum(-1) / total, (weight * y).sum(-1) / total
    deviation = x - centre_x[:, None]
    spread = (weight * deviation**2).sum(-1)
    slope = (weight * deviation * (y - centre_y[:, None])).sum(-1) / spread
    return np.stack([centre_y - slope * centre_x, slope], -1)


def logit_of_log(log_y: Logs) -> Logs:
    """log(y / (1 - y))."""
    return log_y - np.log(-np.expm1(np.minimum(log_y, -1e-12)))


# Hill, y = x^k / (x^k + x_half^k): parameters log x_half and k.


def _hill_start(x: Logs, y: Logs, weight: Logs) -> Params:
    """logit(y) = k (log x - log x_half) is a straight line."""
    intercept, slope = weighted_line(x, logit_of_log(y), weight).T
    slope = np.where(np.abs(slope) < 1e-3, 1e-3, slope)
    return np.stack([-intercept / slope, slope], -1)


def _hill_log_y(params: Params, x: Logs) -> Logs:
    half, k = params[:, :1], params[:, 1:]
    return -np.logaddexp(0, k * (half - x))


def _hill_slopes(params: Params, x: Logs) -> Float[np.ndarray, "draw point param"]:
    half, k = params[:, :1], params[:, 1:]
    rest = -np.expm1(_hill_log_y(params, x))  # 1 - y
    return np.stack([-rest * k, -rest * (half - x)], -1)


def _hill_log_x(params: Params, y: Logs) -> Logs:
    return params[:, :1] + logit_of_log(y) / params[:, 1:]


# Hill with coefficient 1: log x_half alone.


def _with_k_1(params: Float[np.ndarray, "draw 1"]) -> Float[np.ndarray, "draw 2"]:
    return np.concatenate([params, np.ones_like(params)], -1)


def _hill1_start(x: Logs, y: Logs, weight: Logs) -> Params:
    half = (weight * (x - logit_of_log(y))).sum(-1) / weight.sum(-1)
    return half[:, None]


# Line with intercept, y = b + a x: parameters b and a.


def _line_start(x: Logs, y: Logs, weight: Logs) -> Params:
    """The line of least relative error, or one through the origin where that falls below 0."""
    x, y = np.broadcast_arrays(x, y)
    line = weighted_line(np.exp(x), np.exp(y), weight * np.exp(-2 * y))
    ratio = np.exp((weight * (y - x)).sum(-1) / weight.sum(-1))
    through_origin = np.stack([np.zeros_like(ratio), ratio], -1)
    positive = np.isfinite(_line_log_y(line, x)).all(-1, keepdims=True)
    return np.where(positive, line, through_origin)


def _line_log_y(params: Params, x: Logs) -> Logs:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(params[:, :1] + params[:, 1:] * np.exp(x))


def _line_slopes(params: Params, x: Logs) -> Float[np.ndarray, "draw point param"]:
    y = np.exp(_line_log_y(params, x))
    return np.stack([1 / y, np.exp(np.broadcast_to(x, y.shape)) / y], -1)


def _line_log_x(params: Params, y: Logs) -> Logs:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log((np.exp(y) - params[:, :1]) / params[:, 1:])


# Power law, y = b x^a: parameters log b and a.


def _power_log_y(params: Params, x: Logs) -> Logs:
    return params[:, :1] + params[:, 1:] * x


def _power_slopes(params: Params, x: Logs) -> Float[np.ndarray, "draw point param"]:
    shape = _power_log_y(params, x).shape
    return np.stack([np.ones(shape), np.broadcast_to(x, shape)], -1)


def _power_log_x(params: Params, y: Logs) -> Logs:
    return (y - params[:, :1]) / params[:, 1:]


# The sparsity at which half of the performance is gone: infinite where hits do not rise with it.


def _hill_half(params: Params) -> Values:
    with np.errstate(over="ignore"):
        return np.where(params[:, 1] <= 0, np.inf, np.exp(params[:, 0]))


def _line_half(params: Params) -> Values:
    intercept, slope = params.T
    with np.errstate(invalid="ignore", divide="ignore"):
        half = np.maximum((0.5 - intercept) / slope, 0.0)
    return np.where(np.isnan(slope), np.nan, np.where(slope > 0, half, np.inf))


def _power_half(params: Params) -> Values:
    scale, exponent = params.T
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        half = np.exp((np.log(0.5) - scale) / exponent)
    return np.where(np.isnan(exponent), np.nan, np.where(exponent > 0, half, np.inf))


CURVES = {
    curve.name: curve
    for curve in (
        Curve(
            "hill",
            "Hill, y = x^k / (x^k + x_half^k)",
            2,
            _hill_start,
            _hill_log_y,
            _hill_slopes,
            _hill_log_x,
            lambda params: {"half": _hill_half(params), "exponent": params[:, 1]},
        ),
        Curve(
            "hill1",
            "Hill with k = 1, y = x / (x + x_half)",
            1,
            _hill1_start,
            lambda params, x: _hill_log_y(_with_k_1(params), x),
            lambda params, x: _hill_slopes(_with_k_1(params), x)[..., :1],
            lambda params, y: _hill_log_x(_with_k_1(params), y),
            lambda params: {"half": _hill_half(_with_k_1(params))},
        ),
        Curve(
            "line",
            "line, y = b + a x",
            2,
            _line_start,
            _line_log_y,
            _line_slopes,
            _line_log_x,
            lambda params: {
                "half": _line_half(params),
                "intercept": params[:, 0],
                "slope": params[:, 1],
            },
        ),
        Curve(
            "power",
            "power law, y = b x^a",
            2,
            weighted_line,
            _power_log_y,
            _power_slopes,
            _power_log_x,
            lambda params: {
                "half": _power_half(params),
                "exponent": params[:, 1],
                "scale": np.exp(params[:, 0]),
            },
        ),
    )
}
