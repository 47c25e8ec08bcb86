"""A frontier: a curve through SAEs at several sparsities, fitted to the hit in performance.

Method, section 8. x = 1/L0, or D/L0 where models of different width share an axis; y = 1 - loss
recovered against mean ablation. All curves are fitted to log y, so that the corrected Akaike
criterion compares them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sage.errors import SageError, SageWarning, unknown
from sage.frontier.curves import CURVES, Curve, Params
from sage.frontier.least_squares import fit_curve
from sage.stats import DRAWS, Estimate, Sampled

LEAST_POINTS = 4
REFERENCE_L0 = (16, 32, 64, 128)
# x_half is an extrapolation where the sparsest point lies further below it than this.
FAR = 5.0

Numbers = Sequence[float | int | Sampled] | np.ndarray
"""One number for each SAE, with its bootstrap draws or without."""

Over = Literal["sequences", "SAEs", "both"]


class CurveFit(NamedTuple):
    """One curve fitted to the points themselves."""

    curve: Curve
    params: Params
    rss: float
    aicc: float


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Points:
    """The SAEs that a frontier is fitted to: sparsity and hit, with draws of the hit where they are
    known. `width` is what L0 is divided by (1: nothing); `left_out` counts SAEs whose hit has no
    place on a logarithmic axis."""

    l0: Float[np.ndarray, "point"]
    hit: Float[np.ndarray, "point"]
    width: Float[np.ndarray, "point"]
    l0_draws: Float[np.ndarray, "draw point"] | None
    hit_draws: Float[np.ndarray, "draw point"] | None
    left_out: int

    @property
    def log_x(self) -> Float[np.ndarray, "1 point"]:
        """Log sparsity."""
        return np.log(self.width / self.l0)[None]


@dataclass(frozen=True, eq=False)
class Frontier:
    """A fitted frontier; made by `sage.fit_frontier`.

    `model` is the curve that was chosen or asked for, `fits` are all four; `draws` are its
    parameters in bootstrap samples `over` sequences, SAEs or both.
    """

    points: Points
    fits: Mapping[str, CurveFit]
    model: str
    over: Over
    draws: Params

    @property
    def half(self) -> float:
        """The sparsity, 1/L0 or D/L0, at which half of the performance is gone; infinite where hits
        do not rise with sparsity."""
        return self._values["half"]

    @property
    def exponent(self) -> float | None:
        """k of a Hill curve, a of a power law, None of a line."""
        return 1.0 if self.model == "hill1" else self._values.get("exponent")

    @property
    def aicc(self) -> dict[str, float]:
        """The corrected Akaike criterion of every curve, infinite where there are too few points to
        correct it; lower is better."""
        return {name: fit.aicc for name, fit in self.fits.items()}

    def interval(self, level: float = 0.95) -> dict[str, Interval]:
        """The bootstrap interval of every parameter that the curve reports, `half` among them."""
        if not 0 < level < 1:
            raise SageError(f"The level of an interval is between 0 and 1; {level} was given.")
        values = self._curve.values(self.draws)
        return {name: _quantiles(drawn, level) for name, drawn in values.items()}

    def hit_at(self, l0: float | int) -> Estimate:
        """The hit that the curve says at an L0, or at an L0/D, with its 95 % interval."""
        return self.sampled_hit_at(l0).estimate()

    def sampled_hit_at(self, l0: float | int) -> Sampled:
        """The same with its draws."""
        log_x = np.array([[-np.log(l0)]])
        value = np.exp(self._curve.log_y(self._fit.params, log_x))[0, 0]
        drawn = np.exp(self._curve.log_y(self.draws, log_x))[:, 0]
        return Sampled(float(value), drawn, len(self.points.l0))

    @property
    def stray(self) -> float:
        """The factor by which hits stray from the curve: exp of the standard deviation of log y."""
        freedom = max(1, len(self.points.hit) - self._curve.params)
        return float(np.exp(np.sqrt(self._fit.rss / freedom)))

    @property
    def warning(self) -> str:
        """What to bear in mind of `half`; empty where it lies near the points."""
        sparsest = float(np.exp(self.points.log_x.max()))
        if self.half <= FAR * sparsest:
            return ""
        if not np.isfinite(self.half):
            return (
                "Hits do not rise with sparsity here: there is no half of the performance to lose."
            )
        given = "L0/D" if (self.points.width != 1).any() else "L0"
        return (
            f"Half of the performance is gone at {given} {1 / self.half:.2g}, which lies far "
            f"outside the SAEs (the sparsest has {given} {1 / sparsest:.2g}): that is an "
            "extrapolation. Quote the hit at an L0 instead."
        )

    @property
    def _fit(self) -> CurveFit:
        return self.fits[self.model]

    @property
    def _curve(self) -> Curve:
        return CURVES[self.model]

    @property
    def _values(self) -> dict[str, float]:
        values = self._curve.values(self._fit.params)
        return {name: float(value[0]) for name, value in values.items()}


def fit_frontier(
    *,
    l0: Numbers,
    hit: Numbers,
    model: str | None = None,
    width: Sequence[float | int] | np.ndarray | float | None = None,
    over: Over | None = None,
    seed: int = 0,
) -> Frontier:
    """The frontier through SAEs of these L0 and hits (1 - loss recovered against mean ablation).

    `model` is hill, hill1 (coefficient 1), line or power; None takes the one of the lowest AICc.
    Numbers may carry bootstrap draws over sequences (`sage.stats.Sampled`): then intervals are over
    sequences and SAEs, or over the one that `over` names; without draws they are over SAEs. With
    `width`, the width of each SAE's model, x is D/L0. Hits that are not between 0 and 1 are left
    out and counted. SageError for fewer than four points, or all at one sparsity; SageWarning where
    x_half lies far outside the points.
    """
    frontier = fit_points(make_points(l0, hit, width), model=model, over=over, seed=seed)
    if frontier.warning:
        warnings.warn(frontier.warning, SageWarning, stacklevel=2)
    return frontier


def make_points(
    l0: Numbers,
    hit: Numbers,
    width: Sequence[float | int] | np.ndarray | float | None = None,
) -> Points:
    """Points of a frontier from numbers with or without draws; those without a logarithm are left
    out."""
    if len(l0) != len(hit):
        raise SageError(f"There are {len(l0)} L0 and {len(hit)} hits. Give one of each per SAE.")
    sparsity, hits = _values_of(l0), _values_of(hit)
    widths = np.broadcast_to(np.asarray(1.0 if width is None else width, float), hits.shape)
    if (sparsity <= 0).any() or not np.isfinite(sparsity).all() or (widths <= 0).any():
        raise SageError("L0 and width must be above 0. An SAE without active latents has no place.")
    kept = (hits > 0) & (hits < 1)
    hit_draws = _draws_of(hit, kept)
    l0_draws = _draws_of(l0, kept)
    if hit_draws is not None and l0_draws is None:
        l0_draws = np.broadcast_to(sparsity[kept], hit_draws.shape)
    left_out = int((~kept).sum())
    return Points(sparsity[kept], hits[kept], widths[kept], l0_draws, hit_draws, left_out)


def fit_points(
    points: Points,
    *,
    model: str | None = None,
    over: Over | None = None,
    seed: int = 0,
) -> Frontier:
    """`fit_frontier` of points that are made; it warns of nothing."""
    if model is not None and model not in CURVES:
        raise unknown("curve", model, CURVES)
    _check_enough(points)
    given: Over = "SAEs" if points.hit_draws is None else "both"
    over = over or given
    if over != "SAEs" and points.hit_draws is None:
        raise SageError(
            "There are no draws over sequences. Give hits as sage.stats.Sampled, or over='SAEs'."
        )
    fits = {name: _fit(curve, points) for name, curve in CURVES.items()}
    chosen = model or min(fits, key=lambda name: fits[name].aicc)
    draws = _drawn_params(fits[chosen], points, over, seed)
    return Frontier(points, fits, chosen, over, draws)


def akaike(rss: float, *, points: int, params: int) -> float:
    """AICc of a least-squares fit: n log(RSS/n) + 2 p + 2 p (p + 1)/(n - p - 1), where p counts the
    variance of the errors too; infinite where n - p - 1 is not above 0.

    Hurvich and Tsai 1989, Biometrika 76, 297. A fit without error counts as one of rounding errors.
    """
    p = params + 1
    if points - p - 1 <= 0:
        return float("inf")
    least = points * np.finfo(float).eps ** 2
    correction = 2 * p * (p + 1) / (points - p - 1)
    return float(points * np.log(max(rss, least) / points) + 2 * p + correction)


def _fit(curve: Curve, points: Points) -> CurveFit:
    log_y = np.log(points.hit)[None]
    fits = fit_curve(curve, points.log_x, log_y, np.ones_like(log_y))
    rss = float(fits.rss[0])
    aicc = akaike(rss, points=log_y.size, params=curve.params)
    return CurveFit(curve, fits.params, rss, aicc if np.isfinite(rss) else float("inf"))


def _sequence_strays(points: Points) -> Float[np.ndarray, "draw point"]:
    """How far log hits lie from their own values on resamples of sequences; NaN where a hit leaves
    (0, 1)."""
    assert points.hit_draws is not None
    usable = (points.hit_draws > 0) & (points.hit_draws < 1)
    return np.log(np.where(usable, points.hit_draws, np.nan)) - np.log(points.hit)


def _sae_strays(fit: CurveFit, points: Points, seed: int) -> Float[np.ndarray, "draw point"]:
    """How far log hits would lie from the curve if SAEs were trained anew: as far as those of the
    points do.

    How far that is, is itself known from few points, and drawn too (RSS over a chi-squared
    variable): for a curve linear in its parameters the spread of the draws is then that of a t
    distribution. Resampling the points themselves would be too narrow for so few, and would often
    leave too few to fit.
    """
    generator = np.random.default_rng([seed, len(points.hit)])
    draws = DRAWS if points.hit_draws is None else len(points.hit_draws)
    freedom = max(1, len(points.hit) - fit.curve.params)
    variance = fit.rss / generator.chisquare(freedom, size=(draws, 1))
    return generator.normal(size=(draws, len(points.hit))) * np.sqrt(variance)


def _drawn_params(fit: CurveFit, points: Points, over: Over, seed: int) -> Params:
    """The parameters in bootstrap samples.

    Over sequences alone the SAEs are taken as they are, each with its own distance from the curve.
    Over SAEs these distances are drawn anew, about the curve; over both, what resampled sequences
    do to the SAEs comes on top.
    """
    log_x = points.log_x
    if over == "sequences":
        log_y = np.log(points.hit) + _sequence_strays(points)
    else:
        log_y = fit.curve.log_y(fit.params, log_x) + _sae_strays(fit, points, seed)
        if over == "both":
            log_y = log_y + _sequence_strays(points)
    if over != "SAEs" and points.l0_draws is not None:
        log_x = np.log(points.width / np.where(points.l0_draws > 0, points.l0_draws, np.nan))
    usable = np.isfinite(log_y) & np.isfinite(log_x)
    placed = np.where(np.isfinite(log_x), log_x, points.log_x)
    return fit_curve(fit.curve, placed, np.where(usable, log_y, -1.0), usable.astype(float)).params


def _check_enough(points: Points) -> None:
    sparsities = len(np.unique(points.log_x))
    if len(points.hit) >= LEAST_POINTS and sparsities > 1:
        return
    left_out = f", {points.left_out} left out as their hit is not between 0 and 1"
    raise SageError(
        f"A frontier takes {LEAST_POINTS} SAEs at 2 sparsities or more; here are "
        f"{len(points.hit)} at {sparsities}{left_out if points.left_out else ''}. "
        "Measure more sparsities of the architecture."
    )


def _values_of(numbers: Numbers) -> Float[np.ndarray, "point"]:
    return np.array([n.value if isinstance(n, Sampled) else n for n in numbers], dtype=float)


def _draws_of(
    numbers: Numbers, kept: Bool[np.ndarray, "given"]
) -> Float[np.ndarray, "draw point"] | None:
    """Draws of the points that are kept, where all have them."""
    sampled = [number for number in numbers if isinstance(number, Sampled)]
    if not sampled:
        return None
    if len(sampled) < len(numbers):
        raise SageError("Some numbers have draws and others have none. Give all or none of them.")
    if len({len(number.draws) for number in sampled}) > 1:
        raise SageError(
            "Numbers have different counts of draws. Draw them from the same resamples."
        )
    return np.stack([number.draws for number in sampled], -1)[:, kept]


def _quantiles(drawn: Float[np.ndarray, "draw"], level: float) -> Interval:
    """Ends that leave equally many draws beyond, be they infinite; NaN where half of the draws or
    more are undefined."""
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) <= len(drawn):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(float(low), float(high))
