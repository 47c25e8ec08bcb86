"""T1, approximation: do reconstructions carry what the model needs, and their errors nothing?

The first is sufficiency, the second necessity. All nodes of the set are written at once, from clean
runs (method, section 5.2; Makelov, Lange and Nanda 2024, section 4.2). 0 is mean ablation, 1 the
activation itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.dictionaries.activations import Moments
from sage.dictionaries.dictionary import Dictionary
from sage.models.base import Model
from sage.scores.data import Answers
from sage.scores.levels import Decisions, Split
from sage.scores.node_set import Contender, NodeSet
from sage.scores.runs import Edits, SplitBehaviour, SplitRuns, behaviours
from sage.scores.score import Columns, Detail, Score, mean_of

MIN_SHARE = 0.1
MIN_ERRORS = 3


class Approximation(NamedTuple):
    """The metric per prompt with the nodes at their reconstructions, and with what these leave out
    added to the mean."""

    split: SplitBehaviour
    sufficient: Float[np.ndarray, "prompt"]
    necessary: Float[np.ndarray, "prompt"]

    @property
    def columns(self) -> Columns:
        """Clean, mean-ablated, sufficient and necessary metric."""
        split = self.split
        metrics = (split.clean.metric, split.ablated.metric, self.sufficient, self.necessary)
        return Columns(np.stack(metrics, -1), split.clusters)


def run_approximations(
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    split: SplitRuns,
    *,
    moments: Moments,
    answers: Answers,
) -> dict[str, Approximation]:
    """Every dictionary's reconstruction, and what it leaves out, in place of the activations."""
    base = split.pairs.base
    edits: list[Edits] = []
    for dictionary in dictionaries.values():
        reconstructed = dictionary.reconstruct(base)
        rest = {
            node: moments.mean[node] + (base.values[node] - value)
            for node, value in reconstructed.items()
        }
        edits += [reconstructed, rest]
    results = behaviours(model, edits, split.pairs, answers)
    metrics = [behaviour.metric for behaviour in results]
    pairs = zip(dictionaries, metrics[::2], metrics[1::2], strict=True)
    return {name: Approximation(split.behaviour, first, second) for name, first, second in pairs}


def why_undefined(fit: SplitBehaviour) -> str | None:
    """Why T1 is undefined at these nodes, for every dictionary alike; None where it is defined.

    It is where mean ablation moves the metric by less than a tenth of it, or than three standard
    errors, on pairs of fit.
    """
    clean = fit.clean.metric
    effect = clean - fit.ablated.metric
    error = effect.std(ddof=1) / np.sqrt(len(effect)) if len(effect) > 1 else np.inf
    least = max(MIN_SHARE * abs(clean.mean()), MIN_ERRORS * error)
    if 0 < least <= abs(effect.mean()):
        return None
    ablated = fit.ablated.metric.mean()
    return (
        f"mean-ablating the nodes moves the metric from {clean.mean():.3g} to {ablated:.3g}, less "
        f"than {least:.2g}"
    )


def sufficiency(means: Float[np.ndarray, "draw 4"]) -> Float[np.ndarray, "draw"]:
    """(m_suff - m_abl)/(m_clean - m_abl)."""
    return (means[:, 2] - means[:, 1]) / (means[:, 0] - means[:, 1])


def necessity(means: Float[np.ndarray, "draw 4"]) -> Float[np.ndarray, "draw"]:
    """(m_clean - m_nec)/(m_clean - m_abl)."""
    return (means[:, 0] - means[:, 3]) / (means[:, 0] - means[:, 1])


def raw_approximation(means: Float[np.ndarray, "draw 4"]) -> Float[np.ndarray, "draw"]:
    """The mean of 1 - |1 - x| over the two, since both may pass 1."""
    both = np.stack([sufficiency(means), necessity(means)])
    return (1 - np.abs(1 - both)).mean(0)


def approximation(means: Float[np.ndarray, "draw 4"]) -> Float[np.ndarray, "draw"]:
    """The same, clipped to [0, 1]."""
    return np.clip(raw_approximation(means), 0, 1)


def measure(
    node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
) -> dict[str, Approximation]:
    """Every contender's reconstructions, run together."""
    return run_approximations(
        node_set.model,
        {contender.name: contender.dictionary for contender in contenders},
        node_set.split(split),
        moments=node_set.data.moments,
        answers=node_set.data.shared.answers,
    )


def _columns(part: Approximation, decisions: Decisions) -> Columns:
    del decisions
    return part.columns


def _details(part: Approximation, decisions: Decisions) -> Iterator[Detail]:
    """Sufficiency and necessity, and the metric under each edit."""
    if decisions.approximation is None:
        yield Detail("sufficiency", part.columns, sufficiency)
        yield Detail("necessity", part.columns, necessity)
    yield Detail("sufficient metric", part.columns, mean_of(2))
    yield Detail("necessary metric", part.columns, mean_of(3))


SCORE = Score(
    name="approximation",
    version=2,
    symbol="T1",
    title="approximation",
    zero="the nodes at their means",
    one="the activations themselves",
    measurement="approximation",
    columns=_columns,
    statistic=approximation,
    raw=raw_approximation,
    why_undefined=lambda decisions: decisions.approximation,
    details=_details,
    figure="frontier",
)
