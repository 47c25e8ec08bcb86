"""What the model does on the pairs of one split, whatever the dictionary.

Clean, with the nodes at their means, and at the ground truth, which sets them to what they hold on
p' (method, sections 5.2 and 5.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sage.dictionaries.activations import Moments
from sage.memory import WRITTEN_NUMBERS_AT_ONCE
from sage.models.base import Model, Outcome
from sage.nodes import Node
from sage.scores.data import Answers, PairRuns

Edits = Mapping[Node, Tensor]

# Of the pairs: a component that holds more leaves too few to resample.
MOST_IN_ONE = 0.1


class Behaviour(NamedTuple):
    """The metric and what the model says, per prompt."""

    metric: Float[np.ndarray, "prompt"]
    choice: Int[np.ndarray, "prompt"]


class Clusters(NamedTuple):
    """Which pairs a resample takes together: `numbers` has one for each pair.

    They are those that share prompts, or only base prompts (`by_base`) where one component would
    hold too much.
    """

    numbers: tuple[int, ...]
    by_base: bool


class SplitBehaviour(NamedTuple):
    """What the model does on the pairs of one split."""

    pair_clusters: Clusters
    clean: Behaviour
    ablated: Behaviour
    truth: Behaviour

    @property
    def clusters(self) -> tuple[int, ...]:
        """The number of each pair's cluster."""
        return self.pair_clusters.numbers

    @property
    def effect(self) -> Float[np.ndarray, "prompt"]:
        """|m_clean - m_gt|: how far the ground truth takes the metric."""
        return np.abs(self.clean.metric - self.truth.metric)

    def graded(self, metric: Float[np.ndarray, "prompt"]) -> Float[np.ndarray, "prompt"]:
        """1 - |m - m_gt| / E|m_clean - m_gt|; not a number where the ground truth moves nothing."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - np.abs(metric - self.truth.metric) / self.effect.mean()

    @property
    def unchanged(self) -> Float[np.ndarray, "prompt"]:
        """Where the model says the same with nothing edited as under the ground truth."""
        return (self.clean.choice == self.truth.choice).astype(float)


class SplitRuns(NamedTuple):
    """Pairs of one split, and what the model does on them."""

    pairs: PairRuns
    behaviour: SplitBehaviour


def run_split(model: Model, pairs: PairRuns, moments: Moments, answers: Answers) -> SplitBehaviour:
    """The clean, the mean-ablated and the ground-truth run."""
    base, target = pairs
    means = {node: moments.mean[node].expand_as(value) for node, value in base.values.items()}
    clean, ablated, truth = behaviours(model, [{}, means, dict(target.values)], pairs, answers)
    return SplitBehaviour(pair_clusters(pairs), clean, ablated, truth)


def pair_clusters(pairs: PairRuns) -> Clusters:
    """Connected components of pairs that share a prompt text; where one holds over 10 % of the
    pairs, pairs of one base text (method, section 5.9).

    They are numbered in the order of their first texts, so that the order of pairs decides nothing.
    """
    base, target = ([p.prompt.text for p in run.prompts] for run in pairs)
    texts = {text: number for number, text in enumerate(sorted({*base, *target}))}
    rows, columns = [texts[text] for text in base], [texts[text] for text in target]
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(texts), len(texts)))
    _, component = connected_components(links, directed=False)
    numbers = [int(component[row]) for row in rows]
    if max(Counter(numbers).values()) > MOST_IN_ONE * len(numbers):
        return Clusters(tuple(rows), by_base=True)
    return Clusters(tuple(numbers), by_base=False)


def behaviours(
    model: Model, edits: Sequence[Edits], pairs: PairRuns, answers: Answers
) -> list[Behaviour]:
    """What the model does on p under each of the edits; equal ones are run once, prompt by
    prompt."""
    size = sum(value.numel() for value in pairs.base.values.values())
    step = max(1, WRITTEN_NUMBERS_AT_ONCE // max(size, 1))
    results: list[Behaviour] = []
    for first in range(0, len(edits), step):
        outcomes = model.write_many(
            edits[first : first + step], pairs.base.prompts, answers.metric, among=answers.tokens
        )
        results += [_behaviour(outcome) for outcome in outcomes]
    return results


def _behaviour(outcome: Outcome) -> Behaviour:
    return Behaviour(outcome.metric.double().numpy(), outcome.choice.numpy())
