"""The scores: every raw component between its floor and its ceiling, the mean of T1 to T4, and the
control score.

A component enters once as (value - floor)/(ceiling - floor), is averaged over the contrasts that
have one, and then clipped to [0, 1]; it is undefined where ceiling - floor < .1 (method, section 5,
Score).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sage.result import COMPONENTS
from sage.stats import Sampled, average, combine

MIN_RANGE = 0.1
# A control is never the floor of a score that it leaves unchanged: random and permuted keep the
# codes, so T3 is the SAE's own.
FLOORS: Mapping[str, tuple[str, ...]] = {
    "T1": ("mean only", "random", "permuted", "untrained"),
    "T2": ("mean only", "random", "permuted", "untrained"),
    "T3": ("zero", "untrained"),
    "T4": ("zero", "untrained"),
}


class Component(NamedTuple):
    """One component of one dictionary on one contrast: raw, its floor and ceiling, and what it
    comes to between them (unclipped).

    `normalised` is None where the component is undefined, and `status` says why.
    """

    raw: Sampled | None
    floor: Sampled | None
    ceiling: Sampled | None
    normalised: Sampled | None
    status: str


class Summary(NamedTuple):
    """One dictionary on one task: components averaged over contrasts and clipped, and their mean.

    `contrasts[component]` counts the contrasts that had one. A component is None where no contrast
    has one, and then `sage` is None too.
    """

    components: Mapping[str, Sampled | None]
    contrasts: Mapping[str, int]
    sage: Sampled | None


def between(
    raw: Sampled | None,
    *,
    floor: Sampled | None,
    ceiling: Sampled | None,
    missing: str | None = None,
) -> Component:
    """(raw - floor)/(ceiling - floor); undefined where `missing` says why, a part is not there, or
    the range is under .1."""
    if missing is not None:
        return Component(raw, floor, ceiling, None, f"undefined: {missing}")
    if raw is None or floor is None or ceiling is None:
        lacking = "the score" if raw is None else "a floor" if floor is None else "a ceiling"
        return Component(raw, floor, ceiling, None, f"undefined: {lacking} was not measured")
    if not np.isfinite(raw.value):
        return Component(raw, floor, ceiling, None, "undefined: the raw score is")
    if not ceiling.value - floor.value >= MIN_RANGE:
        why = f"ceiling {ceiling.value:.2f} less floor {floor.value:.2f} is under {MIN_RANGE}"
        return Component(raw, floor, ceiling, None, f"undefined: {why}")
    share = combine(lambda value, low, high: (value - low) / (high - low), raw, floor, ceiling)
    return Component(raw, floor, ceiling, share, "ok")


def best_floor(component: str, on_fit: Mapping[str, float]) -> str:
    """The control that scores best on `fit` among those that may be the floor; `zero` scores 0, the
    first of equals wins."""
    scores = {
        name: 0.0 if name == "zero" else on_fit.get(name, -np.inf) for name in FLOORS[component]
    }
    return max(scores, key=lambda name: scores[name] if np.isfinite(scores[name]) else -np.inf)


def summarise(by_contrast: Mapping[str, Mapping[str, Sampled]]) -> Summary:
    """Average a dictionary's normalised components, those that are defined for each contrast, and
    then the components."""
    found: dict[str, Sampled | None] = {}
    counts: dict[str, int] = {}
    for name in COMPONENTS:
        defined = [parts[name] for parts in by_contrast.values() if name in parts]
        found[name] = _clipped(defined)
        counts[name] = len(defined)
    present = [value for value in found.values() if value is not None]
    return Summary(found, counts, average(present) if len(present) == len(COMPONENTS) else None)


def _clipped(values: Sequence[Sampled]) -> Sampled | None:
    return combine(lambda mean: np.clip(mean, 0, 1), average(values)) if values else None
