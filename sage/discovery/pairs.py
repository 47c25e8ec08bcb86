"""The pairs that a discovery patches: those of a contrast, and irrelevant ones for the null.

Section 2 of the method, points 2 and 3.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.patching import patch
from sage.models.base import Model
from sage.nodes import Node
from sage.task.metric import Metric
from sage.task.splits import interleave
from sage.task.tokens import TokenizedPair


@dataclass(frozen=True)
class ContrastPairs:
    """One contrast's pairs, the direction of each as a class, and the metric on the clean prompts.

    A node's statistic must reach `tau` times the baseline for it to be kept.
    """

    contrast: str
    pairs: tuple[TokenizedPair, ...]
    classes: Int[Tensor, "pair"]
    metric: Metric
    clean: Float[Tensor, "pair"]
    tau: float

    @property
    def baseline(self) -> float:
        """E|m(p)|."""
        return float(self.clean.abs().mean())

    @property
    def changes_answer(self) -> bool:
        """Whether most pairs have different right answers."""
        changed = sum(pair.clean.answers != pair.counterfactual.answers for pair in self.pairs)
        return 2 * changed > len(self.pairs)

    def patched(
        self, model: Model, node_sets: Sequence[Collection[Node]]
    ) -> Float[Tensor, "set pair"]:
        """The metric of every pair with a set of nodes patched, one row per set."""
        return patch(model, node_sets, self.pairs, self.metric)

    def effects(
        self, model: Model, node_sets: Sequence[Collection[Node]]
    ) -> Float[Tensor, "set pair"]:
        """dm: what patching a set of nodes changes, one row per set."""
        return self.patched(model, node_sets) - self.clean


@dataclass
class IrrelevantPairs:
    """Pairs in which nothing a task asks about changes, and what patching does to them.

    Effects are kept node by node, since a discovery asks for the same nodes for many contrasts.
    """

    pairs: tuple[TokenizedPair, ...]
    metric: Metric
    _effects: dict[Node, Float[Tensor, "pair"]] = field(
        default_factory=dict[Node, Tensor], init=False, repr=False
    )

    def effects(self, model: Model, nodes: Sequence[Node]) -> Float[Tensor, "node pair"]:
        """dm of every node on every pair; nodes asked for before are not patched again."""
        new = [node for node in nodes if node not in self._effects]
        if new:
            clean_and_patched = patch(
                model, [(), *((node,) for node in new)], self.pairs, self.metric
            )
            effects = clean_and_patched[1:] - clean_and_patched[0]
            self._effects.update(zip(new, effects, strict=True))
        return torch.stack([self._effects[node] for node in nodes])


def irrelevant_pairs(
    null: Mapping[str, Sequence[TokenizedPair]], metric: Metric, *, most: int
) -> IrrelevantPairs:
    """At most `most` of the pairs of the irrelevant attributes, one of each attribute in turn."""
    return IrrelevantPairs(interleave(null, most=most), metric)
