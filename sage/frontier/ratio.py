"""Two frontiers compared where both have SAEs: hits at the same L0, and latents for the same hit.

Method, section 8. Nothing is extrapolated: sparsities and hits are those that both have.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.errors import SageError
from sage.frontier.curves import CURVES, Params
from sage.frontier.fit import Frontier, Over
from sage.stats import Estimate, Sampled

_STEPS = 16
# The largest log ratio that is told apart from others: a curve hardly falling has any.
_MOST = 50.0
OVER_WORDS: dict[Over, str] = {
    "sequences": "sequences alone, these SAEs as they are",
    "SAEs": "SAEs",
    "both": "sequences and SAEs",
}


class FrontierRatio(NamedTuple):
    """How one architecture stands to another: geometric means of `latents` needed for the same hit
    and of `hits` at the same L0, both first over second; an interval is undefined where the two
    have no hit, or no L0, in common."""

    first: str
    second: str
    latents: Estimate
    hits: Estimate
    over: Over

    @property
    def sentence(self) -> str:
        """What can be claimed: a difference only where an interval excludes 1."""
        first, second, ratio = self.first, self.second, self.latents
        if not np.isfinite(ratio.value):
            return f"{first} and {second} have no hit in common: no ratio of latents."
        over = OVER_WORDS[self.over]
        if ratio.low <= 1 <= ratio.high or not np.isfinite(ratio.low):
            return (
                f"No difference shown: for the same hit {first} needs {ratio.value:.2g} times the "
                f"latents of {second} (95 % {ratio.low:.2g} to {ratio.high:.2g}, over {over})."
            )
        value, low, high = ratio[0], ratio.low, ratio.high
        if value > 1:
            first, second = second, first
        else:
            value, low, high = 1 / value, 1 / high, 1 / low
        return (
            f"{first} needs {value:.2g} times fewer latents than {second} for the same hit "
            f"(95 % {low:.2g} to {high:.2g}, over {over})."
        )


def compare_frontiers(names: tuple[str, str], first: Frontier, second: Frontier) -> FrontierRatio:
    """The ratios of two frontiers on the same axis, first over second.

    Draws of both are taken together: where both are over the same sequences they are paired.
    """
    if len(first.draws) != len(second.draws) or first.over != second.over:
        raise SageError(
            f"The frontiers of {names[0]} and {names[1]} have intervals over different things. "
            "Fit both over sequences, or both over SAEs."
        )
    return FrontierRatio(
        *names,
        _ratio(first, second, "log_x").estimate(),
        _ratio(first, second, "log_y").estimate(),
        first.over,
    )


def _ratio(first: Frontier, second: Frontier, at: str) -> Sampled:
    """The geometric mean ratio of L0 (`log_x`) at the hits that both have, or of hits (`log_y`) at
    the sparsities that both have."""
    n = len(first.points.l0) + len(second.points.l0)
    spans = [_span(frontier, at) for frontier in (first, second)]
    low, high = max(span[0] for span in spans), min(span[1] for span in spans)
    if not low < high:
        return Sampled(float("nan"), np.full(len(first.draws), np.nan), n)
    grid = np.linspace(low, high, _STEPS)[None]
    sign = -1 if at == "log_x" else 1  # L0 is 1/x
    value = _along(first, _params(first), grid, at) - _along(second, _params(second), grid, at)
    drawn = _along(first, first.draws, grid, at) - _along(second, second.draws, grid, at)
    return Sampled(float(np.exp(sign * value[0])), np.exp(np.clip(sign * drawn, -_MOST, _MOST)), n)


def _span(frontier: Frontier, at: str) -> tuple[float, float]:
    """The range of a frontier's points: of log x to compare hits, of the fitted log y to compare
    sparsities."""
    log_x = frontier.points.log_x
    if at == "log_y":
        return float(log_x.min()), float(log_x.max())
    ends = CURVES[frontier.model].log_y(_params(frontier), np.array([[log_x.min(), log_x.max()]]))
    return float(ends.min()), float(ends.max())


def _params(frontier: Frontier) -> Params:
    return frontier.fits[frontier.model].params


def _along(
    frontier: Frontier, params: Params, grid: Float[np.ndarray, "1 step"], at: str
) -> Float[np.ndarray, "draw"]:
    """The mean of log x or log y along the grid."""
    return getattr(CURVES[frontier.model], at)(params, grid).mean(-1)
