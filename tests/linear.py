"""A world worked by hand: prompts of one token with given labels, and a model linear in two nodes.

The model looks every token up in a table of activations, and its logits are a sum of linear
readouts of them. So any activations can be given to any prompt, and what an edit does to the metric
follows from a dot product.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.models.anatomy import Anatomy, Layer, Norm
from sage.models.base import Model
from sage.models.steps import HookPoint
from sage.nodes import Node, parse_node
from sage.task.task import TEMPLATE, Label, Prompt
from sage.task.tokens import Tokenized
from words import word_tokenizer

D, D_HEAD = 8, 4
MLP, Z = parse_node("0.mlp_in@END"), parse_node("0.0.z@END")
Q, K = parse_node("0.0.q@END"), parse_node("0.0.k@END")
ANSWER, FOIL = 0, 1


def anatomy() -> Anatomy:
    """One layer, one head; what a residual vector is at a node is a random matrix times it."""
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(1, D_HEAD, D, generator=generator) for _ in range(3)]
    nothing = torch.zeros(1, D_HEAD)
    norm = Norm("rms", torch.ones(D), torch.zeros(D), 1e-5)
    W_O = torch.randn(1, D, D_HEAD, generator=generator)
    block = Layer(
        norm, norm, heads[0], nothing, heads[1], nothing, heads[2], nothing, W_O, torch.zeros(D)
    )
    return Anatomy("toy", [block], 1, 1, D, D_HEAD, D, 2, parallel=False, attention_scale=1.0)


def prompts(labels: Sequence[Mapping[str, Label]], *, flips: str = "") -> tuple[Tokenized, ...]:
    """One prompt for each set of labels; its only token is its number.

    A label `template` is the prompt's family. Where the attribute `flips` is 1 answer and foil
    change places.
    """
    tokenized: list[Tokenized] = []
    for number, given in enumerate(labels):
        family = str(given.get(TEMPLATE, "f"))
        others = {name: label for name, label in given.items() if name != TEMPLATE}
        answer, foil = (FOIL, ANSWER) if given.get(flips) == 1 else (ANSWER, FOIL)
        prompt = Prompt(f"prompt {number:04}", family, "v", {}, others, {}, ("yes",), ("no",))
        tokenized.append(Tokenized(prompt, (number,), {"END": 0}, (answer,), (foil,)))
    return tuple(tokenized)


def activations(
    labels: Sequence[Mapping[str, Label]], *, flips: str = "", **values: Tensor
) -> Activations:
    """Prompts with these labels and activations at `mlp`, `z`, `q` or `k`."""
    named = {"mlp": MLP, "z": Z, "q": Q, "k": K}
    nodes = {named[name]: value.float() for name, value in values.items()}
    return Activations(anatomy(), prompts(labels, flips=flips), nodes, {}, {})


def joined(*parts: Activations) -> Activations:
    """The prompts of several runs, numbered anew."""
    labels = [prompt for part in parts for prompt in part.prompt_labels]
    values = {node: torch.cat([part.values[node] for part in parts]) for node in parts[0].nodes}
    return Activations(parts[0].anatomy, prompts(labels), values, {}, {})


@dataclass(frozen=True)
class LinearEngine:
    """Looks activations up by token and reads logits off them, at one token per prompt."""

    table: Mapping[HookPoint, Tensor]
    readout: Mapping[HookPoint, Tensor]
    name: str = "linear"

    def forward(
        self,
        ids: Tensor,
        *,
        read: Collection[HookPoint] = (),
        write: Mapping[HookPoint, Callable[[Tensor], Tensor]] | None = None,
        logits: bool = True,
    ) -> tuple[Tensor | None, dict[HookPoint, Tensor]]:
        values = {point: table[ids] for point, table in self.table.items()}
        values |= {point: change(values[point]) for point, change in (write or {}).items()}
        out = sum(
            values[point][:, -1].flatten(1) @ readout for point, readout in self.readout.items()
        )
        assert isinstance(out, Tensor)
        return out if logits else None, {point: values[point] for point in read}

    def gradients(self, *_: Any, **__: Any) -> dict[HookPoint, Tensor]:
        raise AssertionError("scores take no gradients")


def model(given: Activations, *, batch_size: int | None = None, **metric: Sequence[float]) -> Model:
    """The model that has these activations on these prompts; the logit difference is the dot
    product with `mlp`, plus that with `z`."""
    table: dict[HookPoint, Tensor] = {}
    readout: dict[HookPoint, Tensor] = {}
    for node in given.nodes:
        point = HookPoint(node.kind, node.layer)
        value = given.values[node]
        table[point] = value[:, None] if node.head is not None else value
        direction = torch.tensor(metric.get("z" if node == Z else "mlp", [0.0] * value.shape[-1]))
        readout[point] = torch.stack([direction, torch.zeros_like(direction)], -1)
    return Model(
        "toy",
        "0",
        given.anatomy,
        word_tokenizer(["yes no"]),
        False,
        LinearEngine(table, readout),
        "cpu",
        "float32",
        batch_size,
    )


@dataclass(frozen=True)
class Claimed:
    """A dictionary with given codes, by the number of the prompt, and given directions; what is
    left over is a constant."""

    means: Mapping[Node, Tensor]
    by_prompt: Mapping[Node, Tensor]
    vectors: Mapping[Node, Tensor]
    name: str = "claimed"
    signed: bool = False

    def codes(self, given: Activations) -> dict[Node, Tensor]:
        numbers = [prompt.ids[0] for prompt in given.prompts]
        return {node: self.by_prompt[node][numbers] for node in given.nodes}

    def directions(self, node: Node) -> Tensor:
        return self.vectors[node]

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        return {
            node: self.means[node] + codes @ self.vectors[node]
            for node, codes in self.codes(given).items()
        }


def claimed(
    given: Activations, codes: Mapping[Node, Tensor], vectors: Mapping[Node, Tensor], **fields: Any
) -> Claimed:
    """The dictionary with these codes on these prompts; its constant is what makes mean
    reconstructions right."""
    means = {
        node: value.mean(0) - codes[node].mean(0) @ vectors[node]
        for node, value in given.values.items()
    }
    return Claimed(means, codes, vectors, **fields)
