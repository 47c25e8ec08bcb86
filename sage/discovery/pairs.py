"""The pairs that a discovery patches, and what patching has done to them so far.

Section 2 of the method, points 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.patching import HeldValues, patch
from sage.models.base import Model
from sage.nodes import Node
from sage.progress import expect
from sage.task.metric import Metric
from sage.task.tokens import TokenizedPair

NodeSet = tuple[Node, ...]


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
    def least(self) -> float:
        """The smallest statistic of a node that is kept."""
        return self.tau * self.baseline

    @property
    def changes_answer(self) -> bool:
        """Whether most pairs have different right answers."""
        changed = sum(pair.clean.answers != pair.counterfactual.answers for pair in self.pairs)
        return 2 * changed > len(self.pairs)


@dataclass(eq=False)
class PatchedPairs:
    """Pairs of prompts, and what patching sets of nodes does to them, as far as it was measured.

    No set is patched twice on a pair, and n(p') is read once where it fits into memory.
    `attributed` is I of every candidate; of one that it does not have nothing is known before it
    is patched.
    """

    model: Model
    pairs: tuple[TokenizedPair, ...]
    metric: Metric
    attributed: Mapping[Node, Float[Tensor, "pair"]]
    _effects: dict[NodeSet, Float[Tensor, "pair"]] = field(
        default_factory=dict[NodeSet, Tensor], init=False, repr=False
    )

    @cached_property
    def clean(self) -> Float[Tensor, "pair"]:
        """m(p)."""
        expect(len(self.pairs))
        return patch(self.model, [()], self.pairs, self.metric)[0]

    def patched(self, node_sets: Sequence[NodeSet]) -> Float[Tensor, "set pair"]:
        """The metric of every pair with a set of nodes patched, one row per set."""
        expect(len(node_sets) * len(self.pairs))
        return patch(self.model, node_sets, self.pairs, self.metric, held=self._values)

    def measure(self, node_sets: Sequence[NodeSet], rows: Sequence[int]) -> None:
        """Patch these sets on the pairs of these rows, wherever that was not done yet."""
        clean = self.clean
        sets_by_missing: dict[tuple[int, ...], list[NodeSet]] = {}
        for node_set in node_sets:
            missing = self._missing(node_set, rows)
            sets_by_missing.setdefault(missing, []).append(node_set)
        for missing, alike in sets_by_missing.items():
            if missing:
                metrics = patch(
                    self.model,
                    alike,
                    self.pairs,
                    self.metric,
                    rows=missing,
                    held=self._values,
                )
                columns = list(missing)
                for node_set, effects in zip(alike, metrics - clean[columns], strict=True):
                    self._row(node_set)[columns] = effects

    def effects(self, node_sets: Sequence[NodeSet]) -> Float[Tensor, "set pair"]:
        """dm of every set on every pair, NaN where it was not measured."""
        if not node_sets:
            return torch.empty(0, len(self.pairs), dtype=torch.float64)
        return torch.stack([self._row(node_set) for node_set in node_sets])

    def attribution(self, node_sets: Sequence[NodeSet]) -> Float[Tensor, "set pair"]:
        """The sum of I over the nodes of every set."""
        zero = torch.zeros(len(self.pairs), dtype=torch.float64)
        rows = [
            sum((self.attributed[node] for node in node_set if node in self.attributed), zero)
            for node_set in node_sets
        ]
        return torch.stack(rows) if rows else zero.expand(0, -1)

    def unmeasured(self, node_sets: Sequence[NodeSet], pairs: int) -> int:
        """How many runs it would take to measure these sets on the first so many pairs."""
        return sum(len(self._missing(node_set, range(pairs))) for node_set in node_sets)

    def _row(self, node_set: NodeSet) -> Float[Tensor, "pair"]:
        unknown = torch.full((len(self.pairs),), torch.nan, dtype=torch.float64)
        return self._effects.setdefault(node_set, unknown)

    def _missing(self, node_set: NodeSet, rows: Sequence[int]) -> tuple[int, ...]:
        unknown = self._row(node_set).isnan().tolist()
        return tuple(row for row in rows if unknown[row])

    @cached_property
    def _values(self) -> HeldValues:
        return HeldValues(self.model, self.pairs, tuple(self.attributed))
