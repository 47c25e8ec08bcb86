"""Attribution: what patching a node would do, to first order, for all nodes from one backward pass.

I(n) = <n(p') - n(p), dm/dn at p> (attribution patching), with the QK fix for queries and keys;
dm/dn averaged over a path of embeddings (integrated gradients) or taken with one layer's outputs
cut from the gradient at a time (GradDrop). Kramár et al. 2024 (2403.00745), Hanna et al. 2024
(2403.17806); method, section 2, point 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.qk_fix import attention_of, key_effect, query_effect
from sage.discovery.statistic import statistic
from sage.errors import Unsupported
from sage.memory import ATTRIBUTION_TOKENS_AT_ONCE
from sage.models.base import Model
from sage.nodes import Node, parse_node
from sage.progress import advance, expect
from sage.task.metric import Metric
from sage.task.tokens import TokenizedPair

ATTRIBUTION_PATCHING = "attribution patching"
INTEGRATED_GRADIENTS = "integrated gradients"
GRAD_DROP = "graddrop"
EXACT = "exact"
METHODS = (ATTRIBUTION_PATCHING, INTEGRATED_GRADIENTS, GRAD_DROP, EXACT)
STEPS = 5
EMBED = parse_node("embed")


@dataclass(frozen=True)
class Attribution:
    """I of every node on every pair.

    GradDrop has one variant per dropped layer, the others one in all. The scores add the variants
    up and divide by `weight`: 1, and for GradDrop the number of layers less one, since a node's own
    layer contributes nothing.
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
        variants = torch.stack([statistic(variant, classes) for variant in self.values])
        return variants.sum(0) / self.weight

    def statistic_by_node(self, classes: Int[Tensor, "pair"]) -> dict[Node, float]:
        """The same, node by node."""
        return dict(zip(self.nodes, self.statistic(classes).tolist(), strict=True))

    def ranks(self, classes: Int[Tensor, "pair"]) -> dict[Node, int]:
        """Each node's better place in the rankings by E|I| and by the statistic of I."""
        better = torch.minimum(_ranks(self.mean), _ranks(self.statistic(classes)))
        return dict(zip(self.nodes, better.tolist(), strict=True))


def attribute(
    model: Model,
    nodes: Sequence[Node],
    pairs: Sequence[TokenizedPair],
    metric: Metric,
    *,
    method: str = ATTRIBUTION_PATCHING,
    qk_fix: bool = True,
) -> Attribution:
    """I of every node on every pair.

    Activations and gradients are contracted at once, a slice of the pairs at a time. Integrated
    gradients take pairs of equal length only. Progress counts pairs.
    """
    if not nodes:
        return Attribution((), torch.empty(1, 0, len(pairs)))
    expect(len(pairs))
    layers = model.anatomy.layers
    if method == GRAD_DROP and layers < 2:
        raise Unsupported("GradDrop needs a model of two layers or more. Use attribution patching.")
    drops = range(layers) if method == GRAD_DROP else (None,)
    values = torch.empty(len(drops), len(nodes), len(pairs))
    for rows in _batches(pairs):
        batch = [pairs[row] for row in rows]
        change = _Change(model, nodes, batch, qk_fix=qk_fix)
        for variant, drop in enumerate(drops):
            if method == INTEGRATED_GRADIENTS:
                gradients = _integrated_gradients(model, change.differentiated, batch, metric)
            else:
                clean = [pair.clean for pair in batch]
                gradients = model.gradients(change.differentiated, clean, metric, drop=drop)
            for row, node in enumerate(nodes):
                values[variant, row, rows] = change.contract(node, gradients).float().cpu()
        advance(len(batch))
    return Attribution(tuple(nodes), values, weight=layers - 1.0 if method == GRAD_DROP else 1.0)


class _Change:
    """What a batch of pairs changes at nodes, and what the QK fix needs of the clean run."""

    def __init__(
        self, model: Model, nodes: Sequence[Node], batch: Sequence[TokenizedPair], *, qk_fix: bool
    ) -> None:
        self.anatomy = model.anatomy
        self.fixed = frozenset(node for node in nodes if qk_fix and node.kind in ("q", "k"))
        plain = [node for node in nodes if node not in self.fixed]
        attention = attention_of(self.fixed, model.anatomy)
        self.differentiated = [*plain, *attention.patterns]

        clean = [pair.clean for pair in batch]
        self.values = model.read([*nodes, *attention.projections, *attention.patterns], clean)
        self.changed = model.read(nodes, [pair.counterfactual for pair in batch])
        self.index = {
            name: torch.tensor([prompt.index[name] for prompt in clean], device=model.device)
            for name in {node.position for node in self.fixed}
        }

    def contract(self, node: Node, gradients: Mapping[Node, Tensor]) -> Float[Tensor, "pair"]:
        """I of the node on every pair of the batch."""
        changed = self.changed[node]
        if node in self.fixed:
            effect = query_effect if node.kind == "q" else key_effect
            at = self.index[node.position]
            return effect(node, changed, at, self.anatomy, self.values, gradients)
        return reduce((changed - self.values[node]) * gradients[node], "pair ... -> pair", "sum")


def _integrated_gradients(
    model: Model, nodes: Sequence[Node], batch: Sequence[TokenizedPair], metric: Metric
) -> dict[Node, Tensor]:
    """The mean of dm/dn over the straight path from the embeddings of p to those of p'.

    It is taken at the midpoints of equal steps.
    """
    clean = [pair.clean for pair in batch]
    start = model.read([EMBED], clean)[EMBED]
    end = model.read([EMBED], [pair.counterfactual for pair in batch])[EMBED]
    mean: dict[Node, Tensor] = {}
    for step in range(STEPS):
        midpoint = start + (step + 0.5) / STEPS * (end - start)
        gradients = model.gradients(nodes, clean, metric, at=midpoint)
        mean = {node: value / STEPS + mean.get(node, 0) for node, value in gradients.items()}
    return mean


def _ranks(scores: Float[Tensor, "node"]) -> Int[Tensor, "node"]:
    """Each node's place, from 0, when the largest score comes first; ties keep their order."""
    return scores.argsort(descending=True, stable=True).argsort()


def _batches(pairs: Sequence[TokenizedPair]) -> Iterator[list[int]]:
    """Rows of pairs of much the same length, no more tokens at a time than memory should hold."""
    lengths = [max(len(pair.clean.ids), len(pair.counterfactual.ids)) for pair in pairs]
    batch: list[int] = []
    for row in sorted(range(len(pairs)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > ATTRIBUTION_TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
