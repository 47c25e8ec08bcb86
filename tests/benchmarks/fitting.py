"""The fit of what no calibration can see: how many of a machine's units one of each term takes.

A few small runs cannot tell thirty terms apart, and a fit to them alone sets to nothing what only
large models feel. So every coefficient begins at what its term should take by what it is, and runs
move it as far as they say more than that: a fit of logarithms, each with a normal prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

# What one of each term should take: a run of the model one unit for every token and layer, with
# gradients three, of edits a part; a node or contrast some thousand small operations; a number of
# a table a few passes over it, a search among latents some hundred.
PRIORS = {
    "gate.run": 1.2, "attribution.clean": 3, "attribution.run": 3, "patching.run": 0.3,
    "validation.run": 0.5, "features.run": 1.2, "text.run": 1.2, "pairs.run": 1.5,
    "suite.run": 0.4, "patching.call": 1, "suite.call": 1, "prompts.prompt": 0.2,
    "attribution.candidate": 1, "patching.node": 3, "validation.contrast": 100,
    "features.node": 15, "suite.site": 20, "suite.dictionary": 50, "suite.node": 20,
    "suite.contrast": 200, "suite.label": 0.03, "result.cell": 100, "features.number": 30,
    "suite.choice": 300, "suite.weight": 3, "result.weight": 3, "suite.encoded": 1.5,
    "result.encoded": 1.5,
}  # fmt: skip
# Standard deviations of logarithms: of a prior, of a stage, and of a whole run.
PRIOR, STAGE, RUN = 1.1, 0.15, 0.05
# Of a run: errors of stages smaller than this hardly count.
SMALL = 0.03

Terms = Mapping[str, float]


class Fitted(NamedTuple):
    """Runs to be fitted to: each one's seconds, and those of its stages with their terms."""

    seconds: float
    stages: Sequence[tuple[float, Terms]]


def fit(runs: Sequence[Fitted]) -> dict[str, float]:
    """The coefficient of every term."""
    names = sorted(PRIORS)
    start = np.log([PRIORS[name] for name in names])
    stages = [(seconds, run.seconds, terms) for run in runs for seconds, terms in run.stages]
    counts = _matrix([terms for _, _, terms in stages], names)
    taken = np.array([seconds for seconds, _, _ in stages])
    weight = taken / (taken + SMALL * np.array([whole for _, whole, _ in stages]))
    wholes = np.array([_matrix([terms for _, terms in run.stages], names).sum(0) for run in runs])
    seconds = np.array([run.seconds for run in runs])
    outside = seconds - np.array([sum(taken for taken, _ in run.stages) for run in runs])

    def errors(moved: np.ndarray) -> np.ndarray:
        each = np.exp(start + moved)
        by_stage = weight * np.log(counts @ each / taken) / STAGE
        by_run = np.log((wholes @ each + outside) / seconds) / RUN
        return np.concatenate([by_stage, by_run, moved / PRIOR])

    moved = least_squares(errors, np.zeros(len(names))).x
    return dict(zip(names, np.exp(start + moved).tolist(), strict=True))


def _matrix(terms: Sequence[Terms], names: Sequence[str]) -> np.ndarray:
    return np.array([[of.get(name, 0.0) for name in names] for of in terms])
