"""What one contrast is scored on, and how.

Everything here is read or fitted once and serves every suite and control (method, sections 1 and
5).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sage.dictionaries.activations import Activations, Moments
from sage.dictionaries.supervised import FeatureDictionary
from sage.nodes import Node, Section
from sage.scores.control import KS
from sage.scores.interpretability import LEVELS
from sage.scores.isolation import Decoder
from sage.task.metric import Metric


class Runs(NamedTuple):
    """Clean activations of prompts p and of their counterfactuals p', row by row."""

    base: Activations
    target: Activations

    def on(self, nodes: Collection[Node]) -> Runs:
        """The same prompts on some of the nodes."""
        return Runs(self.base.on(nodes), self.target.on(nodes))


@dataclass(frozen=True)
class ContrastData:
    """What one contrast is scored on, at all nodes of its section.

    `named` are the attributes the contrast names. `fit` is the split of that name, `tried` pairs of
    it and `irrelevant` pairs of it in which only an irrelevant attribute changes; `test` is what is
    reported. `within` nests the task's attributes.
    """

    section: Section
    named: tuple[str, ...]
    fit: Activations
    tried: Runs
    irrelevant: Runs | None
    test: Runs
    supervised: FeatureDictionary
    decoder: Decoder
    moments: Moments
    within: Mapping[str, str] = field(default_factory=dict[str, str])

    def on(self, nodes: Collection[Node]) -> ContrastData:
        """The same on some of the nodes."""
        return replace(
            self,
            section=self.section.restrict(nodes),
            fit=self.fit.on(nodes),
            tried=self.tried.on(nodes),
            irrelevant=None if self.irrelevant is None else self.irrelevant.on(nodes),
            test=self.test.on(nodes),
        )


class Settings(NamedTuple):
    """How to score: the task's metric, the largest budget of T2's area, the budgets measured, the
    seed of the bootstrap.

    `levels` are the corrected F1 from which latents count as interpretable in the causal scores.
    """

    metric: Metric
    k_max: int
    ks: tuple[int, ...] = KS
    seed: int = 0
    levels: tuple[float, ...] = LEVELS
