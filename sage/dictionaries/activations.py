"""Activations of a section on n prompts, and the residual streams they were computed from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from sage.models.anatomy import Anatomy
from sage.nodes import EVERYWHERE, Node
from sage.task.declaration import TEMPLATE
from sage.task.prompt import Label
from sage.task.tokens import Tokenized

Site = tuple[Node, str]
Labels = Sequence[Mapping[str, Label]]


@runtime_checkable
class Reader(Protocol):
    """What reading needs of a model, or of something that has read it before."""

    @property
    def anatomy(self) -> Anatomy: ...
    @property
    def sink(self) -> bool: ...
    def read(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> dict[Node, Tensor]:
        """Values at nodes, as `Model.read`."""
        ...


@dataclass(frozen=True)
class Activations:
    """What a section's nodes hold on n prompts, and the clean streams and attention behind it.

    `values[node]` is [prompt, d]. `streams[hook]` is the residual stream [prompt, position,
    d_model] at the sites the nodes read (`5.resid_pre@*`), zero beyond a prompt's end.
    `patterns[node]` is [prompt, position]: the attention row of a z node. Streams and rows may be
    fewer, where no more are wanted. `bos` says whether position 0 holds a BOS token, or one
    that the model makes a sink of (`Model.sink`).
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

    @cached_property
    def prompt_labels(self) -> Labels:
        """Every prompt's labels, its template family among them: all an edit may know of it."""
        return [labels_of(prompt) for prompt in self.prompts]

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
        """The same prompts on some of the nodes, without streams and patterns that none reads."""
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
    model: Reader,
    nodes: Collection[Node],
    prompts: Sequence[Tokenized],
    *,
    hooks: Collection[Node] | None = None,
) -> Activations:
    """Clean activations at nodes of kinds q k v z mlp_in, with the streams and attention rows that
    projection needs.

    With `hooks` only these streams, and the rows of nodes that read them: whole streams are by far
    the largest part of what is read.
    """
    sources = {model.anatomy.source(node) for node in nodes}
    hooks = sources if hooks is None else sources & set(hooks)
    patterns = {
        node: Node("pattern", node.layer, node.head, node.position)
        for node in nodes
        if node.kind == "z" and model.anatomy.source(node) in hooks
    }
    values = model.read([*nodes, *patterns.values(), *sorted(hooks)], prompts)
    return Activations(
        model.anatomy,
        tuple(prompts),
        {node: values[node] for node in nodes},
        {hook: values[hook] for hook in hooks},
        {node: values[pattern] for node, pattern in patterns.items()},
        model.sink,
    )


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


def labels_of(prompt: Tokenized) -> Mapping[str, Label]:
    """A prompt's labels, its template family among them."""
    return {TEMPLATE: prompt.prompt.family, **prompt.prompt.labels}


def sites(nodes: Collection[Node], anatomy: Anatomy) -> dict[Site, tuple[Node, ...]]:
    """(hook, destination position) -> the nodes that read the residual stream there; a budget is
    per site."""
    readers: dict[Site, list[Node]] = {}
    for node in sorted(nodes):
        site = (anatomy.source(node).at(EVERYWHERE), node.position)
        readers.setdefault(site, []).append(node)
    return {site: tuple(nodes) for site, nodes in readers.items()}
