"""Attribution: what patching a node would do, to first order, for all nodes from one backward pass.

I(n) = <n(p') - n(p), dm/dn at p> (attribution patching), with the QK fix for queries and keys;
dm/dn averaged over a path of embeddings (integrated gradients) or taken with one layer's outputs
cut from the gradient at a time (GradDrop). Kramár et al. 2024 (2403.00745), Hanna et al. 2024
(2403.17806); method, section 2, point 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.qk_fix import attention_of, key_effect, query_effect
from sage.discovery.statistic import statistic
from sage.errors import Unsupported
from sage.memory import ATTRIBUTION_TOKENS_AT_ONCE
from sage.models.anatomy import Anatomy
from sage.models.base import Model
from sage.nodes import Node, parse_node
from sage.progress import advance, expect
from sage.task.metric import Metric
from sage.task.tokens import Tokenized, TokenizedPair

ATTRIBUTION_PATCHING = "attribution patching"
INTEGRATED_GRADIENTS = "integrated gradients"
GRAD_DROP = "graddrop"
EXACT = "exact"
METHODS = (ATTRIBUTION_PATCHING, INTEGRATED_GRADIENTS, GRAD_DROP, EXACT)
STEPS = 5
EMBED = parse_node("embed")
Values = dict[Node, Tensor]


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

    def of_kinds(self, kinds: Collection[str]) -> Attribution:
        """The part of it that is about nodes of these kinds."""
        rows = [row for row, node in enumerate(self.nodes) if node.kind in kinds]
        nodes = tuple(self.nodes[row] for row in rows)
        return Attribution(nodes, self.values[:, rows], weight=self.weight)

    @property
    def by_node(self) -> dict[Node, Float[Tensor, "pair"]]:
        """I of every node, variants averaged."""
        values = self.values.double().sum(0) / self.weight
        return dict(zip(self.nodes, values, strict=True))

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


class WantedNodes(NamedTuple):
    """Nodes whose attribution is wanted on some pairs."""

    nodes: tuple[Node, ...]
    pairs: tuple[TokenizedPair, ...]


def attribute(
    model: Model,
    nodes: Sequence[Node],
    pairs: Sequence[TokenizedPair],
    metric: Metric,
    *,
    method: str = ATTRIBUTION_PATCHING,
    qk_fix: bool = True,
) -> Attribution:
    """I of every node on every pair."""
    wanted = WantedNodes(tuple(nodes), tuple(pairs))
    return attribute_all(model, [wanted], metric, method=method, qk_fix=qk_fix)[0]


def attribute_all(
    model: Model,
    wanted: Sequence[WantedNodes],
    metric: Metric,
    *,
    method: str = ATTRIBUTION_PATCHING,
    qk_fix: bool = True,
) -> list[Attribution]:
    """I of nodes on pairs, for each of several contrasts.

    The clean prompts that contrasts share are run and differentiated once for all of them.
    Activations and gradients are contracted at once, a slice of the prompts at a time. Integrated
    gradients take pairs of equal length only, and share no gradients, since each pair has a path of
    its own. Progress counts pairs.
    """
    layers = model.anatomy.layers
    if method == GRAD_DROP and layers < 2:
        raise Unsupported("GradDrop needs a model of two layers or more. Use attribution patching.")
    drops = range(layers) if method == GRAD_DROP else (None,)
    wanted = [each if each.nodes else each._replace(pairs=()) for each in wanted]
    values = [torch.zeros(len(drops), len(each.nodes), len(each.pairs)) for each in wanted]
    expect(sum(len(each.pairs) for each in wanted))
    for batch in _batches(wanted):
        clean = _Clean(model, batch, metric, qk_fix=qk_fix)
        for variant, drop in enumerate(drops):
            shared = None if method == INTEGRATED_GRADIENTS else clean.gradients(drop=drop)
            for part in batch.parts:
                gradients = clean.path_gradients(part) if shared is None else clean.at(part, shared)
                change = clean.change(part)
                values[part.number][variant][:, part.rows] = change.contract(gradients)
        advance(sum(len(part.rows) for part in batch.parts))
    weight = layers - 1.0 if method == GRAD_DROP else 1.0
    return [
        Attribution(each.nodes, of, weight=weight) for each, of in zip(wanted, values, strict=True)
    ]


@dataclass(frozen=True)
class _Part:
    """What one contrast wants of a batch: the rows of its pairs, and for each the place of its
    clean prompt in the batch."""

    number: int
    nodes: tuple[Node, ...]
    pairs: list[TokenizedPair]
    rows: list[int]
    places: list[int]


@dataclass(frozen=True)
class _PromptBatch:
    """Clean prompts that the same contrasts share."""

    prompts: list[Tokenized]
    parts: list[_Part]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes that any of these contrasts wants."""
        return tuple(sorted({node for part in self.parts for node in part.nodes}))


class _Clean:
    """The clean run of a batch of prompts: all that its contrasts share."""

    def __init__(self, model: Model, batch: _PromptBatch, metric: Metric, *, qk_fix: bool) -> None:
        self.model, self.prompts, self.metric = model, batch.prompts, metric
        nodes = batch.nodes
        self.fixed = frozenset(node for node in nodes if qk_fix and node.kind in ("q", "k"))
        plain = [node for node in nodes if node not in self.fixed]
        attention = attention_of(self.fixed, model.anatomy)
        self.differentiated = [*plain, *attention.patterns]
        self.values = model.read(
            [*nodes, *attention.projections, *attention.patterns], batch.prompts
        )

    def gradients(self, *, drop: int | None) -> Values:
        """dm/dn at the clean prompts."""
        return self.model.gradients(self.differentiated, self.prompts, self.metric, drop=drop)

    def path_gradients(self, part: _Part) -> Values:
        """dm/dn averaged over the paths of a contrast's pairs."""
        return _integrated_gradients(self.model, self.differentiated, part.pairs, self.metric)

    def change(self, part: _Part) -> _PairChange:
        """What a contrast's pairs change."""
        positions = {node.position for node in part.nodes if node in self.fixed}
        return _PairChange(
            anatomy=self.model.anatomy,
            nodes=part.nodes,
            fixed=self.fixed,
            values=self.at(part, self.values),
            changed=self.model.read(part.nodes, [pair.counterfactual for pair in part.pairs]),
            index={
                name: torch.tensor(
                    [pair.clean.index[name] for pair in part.pairs], device=self.model.device
                )
                for name in positions
            },
        )

    def at(self, part: _Part, values: Values) -> Values:
        """Values of the clean prompts as values of a contrast's pairs."""
        if part.places == list(range(len(self.prompts))):
            return values
        places = torch.tensor(part.places, device=self.model.device)
        return {node: value[places] for node, value in values.items()}


@dataclass(frozen=True, eq=False)
class _PairChange:
    """What some pairs change at nodes, and what the QK fix needs of their clean runs."""

    anatomy: Anatomy
    nodes: tuple[Node, ...]
    fixed: frozenset[Node]
    values: Values
    changed: Values
    index: Mapping[str, Int[Tensor, "pair"]]

    def contract(self, gradients: Values) -> Float[Tensor, "node pair"]:
        """I of every node on every pair."""
        return torch.stack([self._effect(node, gradients).float().cpu() for node in self.nodes])

    def _effect(self, node: Node, gradients: Values) -> Float[Tensor, "pair"]:
        changed = self.changed[node]
        if node in self.fixed:
            effect = query_effect if node.kind == "q" else key_effect
            at = self.index[node.position]
            return effect(node, changed, at, self.anatomy, self.values, gradients)
        return reduce((changed - self.values[node]) * gradients[node], "pair ... -> pair", "sum")


def _integrated_gradients(
    model: Model, nodes: Sequence[Node], batch: Sequence[TokenizedPair], metric: Metric
) -> Values:
    """The mean of dm/dn over the straight path from the embeddings of p to those of p'.

    It is taken at the midpoints of equal steps.
    """
    clean = [pair.clean for pair in batch]
    start = model.read([EMBED], clean)[EMBED]
    end = model.read([EMBED], [pair.counterfactual for pair in batch])[EMBED]
    mean: Values = {}
    for step in range(STEPS):
        midpoint = start + (step + 0.5) / STEPS * (end - start)
        gradients = model.gradients(nodes, clean, metric, at=midpoint)
        mean = {node: value / STEPS + mean.get(node, 0) for node, value in gradients.items()}
    return mean


def _ranks(scores: Float[Tensor, "node"]) -> Int[Tensor, "node"]:
    """Each node's place, from 0, when the largest score comes first; ties keep their order."""
    return scores.argsort(descending=True, stable=True).argsort()


def _batches(wanted: Sequence[WantedNodes]) -> Iterator[_PromptBatch]:
    """Clean prompts that the same contrasts have pairs on, of much the same length, no more tokens
    at a time than memory should hold."""
    for shared in _by_contrasts(wanted):
        batch: list[_PairsOfPrompt] = []
        for of_prompt in sorted(shared, key=lambda of_prompt: of_prompt.longest):
            tokens = (len(batch) + 1) * of_prompt.pairs_of_a_contrast * of_prompt.longest
            if batch and tokens > ATTRIBUTION_TOKENS_AT_ONCE:
                yield _as_batch(batch, wanted)
                batch = []
            batch.append(of_prompt)
        yield _as_batch(batch, wanted)


class _PairsOfPrompt(NamedTuple):
    """All pairs on one clean prompt, as numbers of contrasts and rows, and the longest text of
    them."""

    prompt: Tokenized
    pairs: list[tuple[int, int]]
    longest: int

    @property
    def contrasts(self) -> tuple[int, ...]:
        """The contrast of every pair."""
        return tuple(number for number, _ in self.pairs)

    @property
    def pairs_of_a_contrast(self) -> int:
        """How many pairs a contrast has at most."""
        return max(Counter(self.contrasts).values())


def _by_contrasts(wanted: Sequence[WantedNodes]) -> Iterable[list[_PairsOfPrompt]]:
    """The clean prompts, together where the same contrasts have as many pairs on them."""
    pairs_of: dict[object, list[tuple[int, int]]] = {}
    for number, each in enumerate(wanted):
        for row, pair in enumerate(each.pairs):
            pairs_of.setdefault(_identity(pair.clean), []).append((number, row))
    groups: dict[tuple[int, ...], list[_PairsOfPrompt]] = {}
    for pairs in pairs_of.values():
        texts = [wanted[number].pairs[row] for number, row in pairs]
        longest = max(max(len(text.clean.ids), len(text.counterfactual.ids)) for text in texts)
        of_prompt = _PairsOfPrompt(texts[0].clean, pairs, longest)
        groups.setdefault(of_prompt.contrasts, []).append(of_prompt)
    return groups.values()


def _as_batch(batch: Sequence[_PairsOfPrompt], wanted: Sequence[WantedNodes]) -> _PromptBatch:
    parts: dict[int, _Part] = {}
    for place, of_prompt in enumerate(batch):
        for number, row in of_prompt.pairs:
            part = parts.setdefault(number, _Part(number, wanted[number].nodes, [], [], []))
            part.pairs.append(wanted[number].pairs[row])
            part.rows.append(row)
            part.places.append(place)
    return _PromptBatch([of_prompt.prompt for of_prompt in batch], list(parts.values()))


def _identity(prompt: Tokenized) -> object:
    """What makes a prompt's run and metric what they are."""
    return prompt.ids, prompt.answers, prompt.foils, tuple(sorted(prompt.index.items()))
