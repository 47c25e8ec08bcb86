"""Activations of a section on n prompts, and the protocol that everything which claims to know the
features meets.

Judged and judge are both a `Dictionary`: supervised features, projected SAEs and controls
reconstruct activations, edit them towards a counterfactual with a few of their latents, and show
their codes and directions. Scores never ask which kind they hold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.models.anatomy import Anatomy
from sage.models.base import Model
from sage.nodes import EVERYWHERE, Node
from sage.store.checkpoints import digest
from sage.store.recall import NOTHING, Recall
from sage.task.task import Label
from sage.task.tokens import Tokenized


@dataclass(frozen=True)
class Activations:
    """What a section's nodes hold on n prompts, and the clean residual streams and attention they
    were computed from.

    `values[node]` is [prompt, d]. `streams[hook]` is the residual stream [prompt, position,
    d_model] at the sites the nodes read (`5.resid_pre@*`), zero beyond a prompt's end.
    `patterns[node]` is [prompt, position]: the attention row of a z node. Streams and rows may be
    fewer, where no more are wanted. `bos` says whether position 0 holds a BOS token.
    """

    anatomy: Anatomy
    prompts: tuple[Tokenized, ...]
    values: Mapping[Node, Tensor]
    streams: Mapping[Node, Tensor]
    patterns: Mapping[Node, Tensor]
    bos: bool = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(sorted(self.values))

    def __len__(self) -> int:
        return len(self.prompts)

    def index(self, position: str) -> Int[Tensor, "prompt"]:
        """The token index of a named position in every prompt."""
        device = next(iter(self.values.values())).device
        return torch.tensor([prompt.index[position] for prompt in self.prompts], device=device)

    def labels(self, attribute: str) -> list[Label]:
        """Every prompt's value of an attribute."""
        return [prompt.prompt.labels[attribute] for prompt in self.prompts]

    def select(self, rows: Sequence[int]) -> Activations:
        """The same nodes on some of the prompts, in the order given."""
        chosen = list(rows)
        return Activations(
            self.anatomy,
            tuple(self.prompts[row] for row in chosen),
            {node: value[chosen] for node, value in self.values.items()},
            {hook: stream[chosen] for hook, stream in self.streams.items()},
            {node: pattern[chosen] for node, pattern in self.patterns.items()},
            self.bos,
        )

    def on(self, nodes: Collection[Node]) -> Activations:
        """The same prompts on some of the nodes; streams and patterns that none of them reads are
        left out."""
        sources = {self.anatomy.source(node) for node in nodes}
        return Activations(
            self.anatomy,
            self.prompts,
            {node: self.values[node] for node in nodes},
            {hook: stream for hook, stream in self.streams.items() if hook in sources},
            {node: self.patterns[node] for node in nodes if node in self.patterns},
            self.bos,
        )


def read(
    model: Model,
    nodes: Collection[Node],
    prompts: Sequence[Tokenized],
    *,
    hooks: Collection[Node] | None = None,
    recall: Recall = NOTHING,
) -> Activations:
    """Clean activations at nodes of kinds q k v z mlp_in, with the streams and attention rows that
    projection needs.

    With `hooks` only these streams, and the rows of nodes that read them: whole streams are by far
    the largest part of what is read. What `recall` holds, which depends on how the model is run, is
    not read again: nodes and rows together, and each stream.
    """
    sources = {model.anatomy.source(node) for node in nodes}
    hooks = sources if hooks is None else sources & set(hooks)
    rows = {
        node: Node("pattern", node.layer, node.head, node.position)
        for node in nodes
        if node.kind == "z" and model.anatomy.source(node) in hooks
    }
    found = _read(
        model, [[*nodes, *rows.values()], *([hook] for hook in sorted(hooks))], prompts, recall
    )
    return Activations(
        model.anatomy,
        tuple(prompts),
        {node: found[node] for node in nodes},
        {hook: found[hook] for hook in hooks},
        {node: found[row] for node, row in rows.items()},
        model.bos,
    )


def read_streams(
    model: Model, hooks: Collection[Node], prompts: Sequence[Tokenized], *, recall: Recall = NOTHING
) -> dict[Node, Float[Tensor, "prompt position d_model"]]:
    """Whole clean residual streams, zero beyond a prompt's end; those that `recall` holds are not
    read again."""
    return _read(model, [[hook] for hook in sorted(hooks)], prompts, recall)


def _read(
    model: Model, wanted: Sequence[Sequence[Node]], prompts: Sequence[Tokenized], recall: Recall
) -> dict[Node, Tensor]:
    """Every node of every group: groups that are not recalled are read together, and kept each by
    itself."""
    found: dict[Node, Tensor] = {}
    missing: list[Sequence[Node]] = []
    told = recall.about(digest(*((prompt.ids, sorted(prompt.index.items())) for prompt in prompts)))
    for group in wanted:
        kept = told.find("activations", _names(group))
        if kept is None:
            missing.append(group)
        else:
            found |= dict(zip(group, kept, strict=True))
    found |= model.read([node for group in missing for node in group], prompts)
    for group in missing:
        told.keep("activations", _names(group), value=[found[node] for node in group])
    return found


def _names(nodes: Sequence[Node]) -> list[str]:
    return [str(node) for node in nodes]


class Moments(NamedTuple):
    """The mean activation of every node, [d], and Var_n = E|a - mean|^2, over `fit`."""

    mean: dict[Node, Tensor]
    variance: dict[Node, float]


def moments(given: Activations) -> Moments:
    """Mean and total variance per node, accumulated in float64."""
    mean = {node: value.double().mean(0) for node, value in given.values.items()}
    variance = {
        node: float((value.double() - mean[node]).square().sum(-1).mean())
        for node, value in given.values.items()
    }
    return Moments({node: value.float() for node, value in mean.items()}, variance)


class Edited(NamedTuple):
    """Activations moved towards a counterfactual with at most k latents per site.

    `picks` counts the latents used by each prompt over all sites; `magnitude` is the method's
    (section 5, T2).
    """

    values: dict[Node, Tensor]
    picks: Int[Tensor, "prompt"]
    magnitude: Float[Tensor, "prompt"]


@runtime_checkable
class Dictionary(Protocol):
    """Features, known or claimed, of a set of nodes. `base` and `target` are clean runs of p and of
    its counterfactual."""

    @property
    def name(self) -> str:
        """How rows call it: a suite's id, `supervised`, `random`, ..."""
        ...

    @property
    def signed(self) -> bool:
        """False where a direction's sign is arbitrary (PCA, neurons), so geometry takes |cos|."""
        ...

    @property
    def coding(self) -> str:
        """Of dictionaries judged together, those of one coding have the same codes, and differ in
        their directions only."""
        ...

    @property
    def content(self) -> str | None:
        """What tells it from all others on the same activations; None for one that is its suite's
        alone, and never met again."""
        ...

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """a_hat at every node, [prompt, d]."""
        ...

    def edit(
        self, base: Activations, target: Activations, *, ks: Sequence[int]
    ) -> dict[int, Edited]:
        """Activations of `base` moved towards `target` by at most k latents per site: one greedy
        run, a result per k."""
        ...

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """How active each latent is at each node (no bias pseudo-latent)."""
        ...

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """Each latent's direction at a node (no bias pseudo-latent)."""
        ...

    def only(self, latents: Mapping[Node, Bool[Tensor, "latent"]]) -> Dictionary:
        """The same dictionary with, at each node, only these latents to choose from and to
        reconstruct with."""
        ...


def sites(nodes: Collection[Node], anatomy: Anatomy) -> dict[tuple[Node, str], tuple[Node, ...]]:
    """(hook, destination position) -> the nodes that read the residual stream there; a budget k is
    per site."""
    found: dict[tuple[Node, str], list[Node]] = {}
    for node in sorted(nodes):
        found.setdefault((anatomy.source(node).at(EVERYWHERE), node.position), []).append(node)
    return {site: tuple(group) for site, group in found.items()}
