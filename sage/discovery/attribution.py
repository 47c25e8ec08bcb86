"""Attribution: what patching a node would do, to first order, for all nodes from a few forward
passes and one backward pass.

I(n) = <n(p') - n(p), dm/dn at p> (attribution patching), with the QK fix for queries and keys;
dm/dn averaged over a path of embeddings (integrated gradients) or taken with one layer's outputs
cut from the gradient at a time (GradDrop). Kramár et al. 2024 (2403.00745), Hanna et al. 2024
(2403.17806); method, section 2, point 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.qk_fix import attention_of, key_effect, query_effect
from sage.discovery.stage import Stage
from sage.discovery.statistic import statistic
from sage.errors import Unsupported
from sage.models.base import Model
from sage.nodes import Node, parse_node
from sage.task.metric import Metric
from sage.task.tokens import TokenizedPair

ATTRIBUTION_PATCHING = "attribution patching"
INTEGRATED_GRADIENTS = "integrated gradients"
GRAD_DROP = "graddrop"
EXACT = "exact"
METHODS = (ATTRIBUTION_PATCHING, INTEGRATED_GRADIENTS, GRAD_DROP, EXACT)
STEPS = 5
TOKENS_AT_ONCE = 1024
EMBED = parse_node("embed")


@dataclass(frozen=True)
class Attribution:
    """I of every node on every pair; GradDrop has one variant per dropped layer, the others one in
    all.

    The scores add the variants up and divide by `weight`: 1, and for GradDrop the number of layers
    less one, since a node's own layer contributes nothing.
    """

    nodes: tuple[Node, ...]
    values: Float[Tensor, "variant node pair"]
    weight: float = 1.0

    @property
    def mean(self) -> Float[Tensor, "node"]:
        """E|I|."""
        return self.values.double().abs().mean(2).sum(0) / self.weight

    def statistic(self, classes: Int[Tensor, "pair"]) -> Float[Tensor, "node"]:
        """The mean over directions of |E[I | direction]|."""
        return (
            torch.stack([statistic(variant, classes) for variant in self.values]).sum(0)
            / self.weight
        )

    def ranks(self, classes: Int[Tensor, "pair"]) -> dict[Node, int]:
        """Each node's better place in the rankings by E|I| and by the statistic of I."""
        places = [
            scores.argsort(descending=True, stable=True).argsort()
            for scores in (self.mean, self.statistic(classes))
        ]
        return dict(zip(self.nodes, torch.minimum(*places).tolist(), strict=True))


def attribute(
    model: Model,
    nodes: Sequence[Node],
    pairs: Sequence[TokenizedPair],
    metric: Metric,
    *,
    method: str = ATTRIBUTION_PATCHING,
    qk_fix: bool = True,
    stage: Stage | None = None,
) -> Attribution:
    """I of every node on every pair, a slice of the pairs at a time: activations and gradients are
    contracted at once.

    Integrated gradients take pairs of equal length only. `stage` counts pairs.
    """
    stage = stage or Stage()
    if not nodes:
        return Attribution((), torch.empty(1, 0, len(pairs)))
    stage.expect(len(pairs))
    layers = model.anatomy.layers
    if method == GRAD_DROP and layers < 2:
        raise Unsupported("GradDrop needs a model of two layers or more. Use attribution patching.")
    drops = range(layers) if method == GRAD_DROP else (None,)
    values = torch.empty(len(drops), len(nodes), len(pairs))
    for rows in _batches(pairs):
        batch = [pairs[row] for row in rows]
        change = _Change(model, nodes, batch, qk_fix=qk_fix)
        for variant, drop in enumerate(drops):
            gradients = _gradients(
                model, change.differentiated, batch, metric, method=method, drop=drop
            )
            values[variant][:, rows] = torch.stack(
                [change.contract(node, gradients).float().cpu() for node in nodes]
            )
        stage.advance(len(batch))
    return Attribution(tuple(nodes), values, weight=layers - 1.0 if method == GRAD_DROP else 1.0)


class _Change:
    """What a batch of pairs changes at nodes, and what the QK fix needs to know of the clean run."""

    def __init__(
        self, model: Model, nodes: Sequence[Node], batch: Sequence[TokenizedPair], *, qk_fix: bool
    ) -> None:
        clean, other = [pair.clean for pair in batch], [pair.counterfactual for pair in batch]
        self.anatomy = model.anatomy
        self.fixed = frozenset(node for node in nodes if qk_fix and node.kind in ("q", "k"))
        attention = attention_of(self.fixed, model.anatomy)
        self.values = model.read([*nodes, *attention.projections, *attention.patterns], clean)
        self.changed = model.read(nodes, other)
        self.differentiated = [
            *(node for node in nodes if node not in self.fixed),
            *attention.patterns,
        ]
        names = {node.position for node in self.fixed}
        self.index = {
            name: torch.tensor([prompt.index[name] for prompt in clean], device=model.device)
            for name in names
        }

    def contract(self, node: Node, gradients: Mapping[Node, Tensor]) -> Float[Tensor, "pair"]:
        """I of the node on every pair of the batch."""
        if node in self.fixed:
            effect = query_effect if node.kind == "q" else key_effect
            return effect(
                node,
                self.changed[node],
                self.index[node.position],
                self.anatomy,
                self.values,
                gradients,
            )
        return ((self.changed[node] - self.values[node]) * gradients[node]).flatten(1).sum(1)


def _gradients(
    model: Model,
    nodes: Sequence[Node],
    batch: Sequence[TokenizedPair],
    metric: Metric,
    *,
    method: str,
    drop: int | None,
) -> dict[Node, Tensor]:
    """dm/dn at p, or its mean over the midpoints of the straight path from the embeddings of p to
    those of p'."""
    clean = [pair.clean for pair in batch]
    if method != INTEGRATED_GRADIENTS:
        return model.gradients(nodes, clean, metric, drop=drop)
    start = model.read([EMBED], clean)[EMBED]
    end = model.read([EMBED], [pair.counterfactual for pair in batch])[EMBED]
    total: dict[Node, Tensor] = {}
    for step in range(STEPS):
        found = model.gradients(
            nodes, clean, metric, at=start + (step + 0.5) / STEPS * (end - start)
        )
        total = {node: value / STEPS + total.get(node, 0) for node, value in found.items()}
    return total


def _batches(pairs: Sequence[TokenizedPair]) -> Iterator[list[int]]:
    """Rows of pairs of much the same length, as many at a time as have TOKENS_AT_ONCE tokens."""
    lengths = [max(len(pair.clean.ids), len(pair.counterfactual.ids)) for pair in pairs]
    batch: list[int] = []
    for row in sorted(range(len(pairs)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
