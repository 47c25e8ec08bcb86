"""Simulated frontiers: Hill curves with noise, and how often intervals hold what was planted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sage.frontier.fit import FAR, Over, fit_points, make_points
from sage.stats import Sampled

HALF, EXPONENT = 0.2, 0.8
NOISE = 0.1
SEQUENCES, DRAWS = 60, 400


class Warned(NamedTuple):
    """Whether the warning of a far half was given, whether it was due, and by how much the half
    was missed, in logs."""

    given: bool
    due: bool
    miss: float


def hits(l0: np.ndarray, *, half: float, k: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Hits of a Hill curve; log hits stray by `noise`."""
    strays = np.random.default_rng(seed).normal(size=len(l0)) * noise
    return np.minimum(np.exp(strays) / (1 + (half * l0) ** k), 0.999)


def coverage(
    over: Over, *, frontiers: int, saes: int, seed: int, half: float = HALF, k: float = EXPONENT
) -> dict[str, int]:
    """How many of so many simulated frontiers have the planted half, and exponent, in their 95 %
    interval."""
    held = {"half": 0, "exponent": 0}
    l0 = np.geomspace(4, 128, saes)
    for number in range(frontiers):
        generator = np.random.default_rng([seed, number])
        hit = _over_saes(l0, half, k, generator)
        if over == "sequences":
            hit = _over_sequences(l0, half, k, generator)
        frontier = fit_points(make_points(l0, hit), model="hill", over=over, seed=number)
        for name, planted in (("half", half), ("exponent", k)):
            low, high = frontier.interval()[name]
            held[name] += low <= planted <= high
    return held


def warned(*, frontiers: int, saes: int, seed: int) -> list[Warned]:
    """Simulated frontiers whose halves are planted from inside the data to a hundred times outside,
    and the warning of each."""
    told: list[Warned] = []
    l0 = np.geomspace(4, 128, saes)
    for number in range(frontiers):
        generator = np.random.default_rng([seed, number])
        half = float(np.exp(generator.uniform(np.log(0.05), np.log(25))))
        hit = _over_saes(l0, half, EXPONENT, generator)
        frontier = fit_points(make_points(l0, hit), model="hill", seed=number)
        due = half > FAR / l0.min()
        told.append(Warned(bool(frontier.warning), due, abs(np.log(frontier.half / half))))
    return told


def _over_saes(
    l0: np.ndarray, half: float, k: float, generator: np.random.Generator
) -> list[float]:
    """SAEs that stray from the curve."""
    strays = generator.normal(size=len(l0)) * NOISE
    return list(np.minimum(np.exp(strays) / (1 + (half * l0) ** k), 0.999))


def _over_sequences(
    l0: np.ndarray, half: float, k: float, generator: np.random.Generator
) -> list[Sampled]:
    """SAEs on the curve, each measured on sequences whose hits stray, in part all together."""
    together = generator.normal(size=(SEQUENCES, 1))
    apart = generator.normal(size=(SEQUENCES, len(l0)))
    curve = 1 / (1 + (half * l0) ** k)
    measured = curve * (1 + 0.4 * together + 0.4 * apart)
    counts = generator.multinomial(SEQUENCES, np.full(SEQUENCES, 1 / SEQUENCES), size=DRAWS)
    draws = counts @ measured / SEQUENCES
    return [
        Sampled(float(value), draws[:, place], SEQUENCES)
        for place, value in enumerate(measured.mean(0))
    ]
