"""Exact patching: the metric with nodes set to what they hold in the counterfactual prompt.

Method, section 2, point 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sage.memory import PATCHED_SETS_AT_ONCE, PATCHED_VALUES_AT_ONCE
from sage.models.base import Model
from sage.nodes import Node
from sage.progress import advance
from sage.task.metric import Metric
from sage.task.tokens import TokenizedPair

Values = dict[Node, Tensor]


def patch(
    model: Model,
    node_sets: Sequence[Collection[Node]],
    pairs: Sequence[TokenizedPair],
    metric: Metric,
    *,
    rows: Sequence[int] | None = None,
    held: HeldValues | None = None,
) -> Float[Tensor, "set row"]:
    """m(p; every node of the set <- n(p')), one row per set, in float64; `rows` are the pairs that
    are patched, by default all.

    The empty set is the clean run. Counterfactual values are those `held`, by default
    read a slice of the pairs at a time, so memory does not grow with the number of pairs.
    Progress counts (set, pair) runs.
    """
    rows = range(len(pairs)) if rows is None else rows
    nodes = sorted({node for node_set in node_sets for node in node_set})
    held = held or HeldValues(model, pairs, most=0)
    metrics = torch.empty(len(node_sets), len(rows), dtype=torch.float64)
    for columns in _slices(len(rows), pairs_at_once(model, nodes)):
        clean = [pairs[row].clean for row in rows[columns]]
        values = held.read(nodes, rows[columns]) if nodes else {}
        for sets in _slices(len(node_sets), PATCHED_SETS_AT_ONCE):
            edits = [{node: values[node] for node in node_set} for node_set in node_sets[sets]]
            metrics[sets, columns] = model.measure(edits, clean, metric).double()
            advance(len(edits) * len(clean))
    return metrics


@dataclass(eq=False)
class HeldValues:
    """n(p') on some pairs, read once and held where the values of all pairs are at most `most`
    numbers, else read anew.

    `wanted` nodes are read together when any of them is first asked for.
    """

    model: Model
    pairs: Sequence[TokenizedPair]
    wanted: Sequence[Node] = ()
    most: int = PATCHED_VALUES_AT_ONCE
    held: Values = field(default_factory=dict[Node, Tensor])

    def read(self, nodes: Sequence[Node], rows: Sequence[int]) -> Values:
        """The values of these nodes on the pairs of these rows."""
        for together in (self.wanted, nodes):
            new = [node for node in together if node not in self.held]
            if new and not set(nodes) <= self.held.keys() and self._fit(new):
                self.held |= self.model.read(new, [pair.counterfactual for pair in self.pairs])
        if not set(nodes) <= self.held.keys():
            return self.model.read(nodes, [self.pairs[row].counterfactual for row in rows])
        index = torch.tensor(rows)
        return {node: self.held[node][index.to(self.held[node].device)] for node in nodes}

    def _fit(self, new: Sequence[Node]) -> bool:
        numbers = _values_per_pair(self.model, [*self.held, *new]) * len(self.pairs)
        return numbers <= self.most


def pairs_at_once(model: Model, nodes: Collection[Node]) -> int:
    """How many pairs' values of these nodes are held at once."""
    return max(1, PATCHED_VALUES_AT_ONCE // max(1, _values_per_pair(model, nodes)))


def _values_per_pair(model: Model, nodes: Collection[Node]) -> int:
    return sum(model.anatomy.width(node.kind) for node in nodes)


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))
