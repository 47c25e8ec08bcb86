"""Exact patching: the metric with nodes set to what they hold in the counterfactual prompt.

Method, section 2, point 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sage.memory import PATCHED_SETS_AT_ONCE, PATCHED_VALUES_AT_ONCE
from sage.models.base import Model
from sage.nodes import Node
from sage.progress import advance, expect
from sage.task.metric import Metric
from sage.task.tokens import TokenizedPair


def patch(
    model: Model,
    node_sets: Sequence[Collection[Node]],
    pairs: Sequence[TokenizedPair],
    metric: Metric,
) -> Float[Tensor, "set pair"]:
    """m(p; every node of the set <- n(p')), one row per set, in float64.

    The empty set is the clean run. Counterfactual values are read for a slice of the pairs at a
    time, so memory does not grow with the number of pairs. Progress counts (set, pair) runs.
    """
    expect(len(node_sets) * len(pairs))
    nodes = sorted({node for node_set in node_sets for node in node_set})
    values_per_pair = sum(model.anatomy.width(node.kind) for node in nodes)
    metrics = torch.empty(len(node_sets), len(pairs), dtype=torch.float64)
    for columns in _slices(len(pairs), PATCHED_VALUES_AT_ONCE // max(1, values_per_pair)):
        clean = [pair.clean for pair in pairs[columns]]
        counterfactual = [pair.counterfactual for pair in pairs[columns]]
        values = model.read(nodes, counterfactual) if nodes else {}
        for rows in _slices(len(node_sets), PATCHED_SETS_AT_ONCE):
            edits = [{node: values[node] for node in node_set} for node_set in node_sets[rows]]
            metrics[rows, columns] = model.measure(edits, clean, metric).double()
            advance(len(edits) * len(clean))
    return metrics


def _slices(total: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, start + size) for start in range(0, total, size))
