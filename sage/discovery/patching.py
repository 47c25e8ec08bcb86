"""Exact patching: the metric with nodes set to what they hold in the counterfactual prompt (method,
section 2, point 2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sage.discovery.stage import Stage
from sage.models.base import Model
from sage.nodes import Node
from sage.task.metric import Metric
from sage.task.tokens import TokenizedPair

VALUES_HELD = 2**25
SETS_AT_ONCE = 32


def patch(
    model: Model,
    sets: Sequence[Collection[Node]],
    pairs: Sequence[TokenizedPair],
    metric: Metric,
    *,
    stage: Stage | None = None,
) -> Float[Tensor, "set pair"]:
    """m(p; every node of the set <- n(p')), one row per set, in float64; the empty set is the clean
    run.

    Counterfactual values are read for a slice of the pairs at a time, so memory does not grow with
    the number of pairs. `stage` counts (set, pair) runs.
    """
    stage = stage or Stage()
    stage.expect(len(sets) * len(pairs))
    nodes = sorted({node for chosen in sets for node in chosen})
    result = torch.empty(len(sets), len(pairs), dtype=torch.float64)
    for rows in _slices(
        len(pairs), VALUES_HELD // max(1, sum(model.anatomy.width(node.kind) for node in nodes))
    ):
        clean, others = (
            [pair.clean for pair in pairs[rows]],
            [pair.counterfactual for pair in pairs[rows]],
        )
        values = model.read(nodes, others) if nodes else {}
        for part in _slices(len(sets), SETS_AT_ONCE):
            edits = [{node: values[node] for node in chosen} for chosen in sets[part]]
            result[part, rows] = model.measure(edits, clean, metric).double()
            stage.advance(len(edits) * len(clean))
    return result


def _slices(total: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
