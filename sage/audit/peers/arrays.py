"""What a peer is computed from: activations, a dictionary's codes and directions, and labels.

One node of any task, or the node of a planted world.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.dictionary import Dictionary
from sage.nodes import Node
from sage.task.prompt import Label


@dataclass(frozen=True, eq=False)
class LabelledNode:
    """Activations of prompts to train on and to test on, at one node, and the number of each
    prompt's value of one attribute; values with too few prompts in either are left out."""

    node: Node
    train: Activations
    test: Activations
    values: tuple[Label, ...]
    train_class: Int[Tensor, "train"]
    test_class: Int[Tensor, "test"]

    def is_value(self, split: str) -> Bool[Tensor, "value prompt"]:
        """Where each value holds, in `train` or `test`."""
        classes = self.train_class if split == "train" else self.test_class
        return classes == torch.arange(len(self.values))[:, None]


@dataclass(frozen=True, eq=False)
class NodeCodes:
    """A dictionary's codes of both splits at a node, and its directions there."""

    train: Float[Tensor, "train latent"]
    test: Float[Tensor, "test latent"]
    directions: Float[Tensor, "latent d"]


def label_node(
    node: Node, train: Activations, test: Activations, attribute: str, *, fewest: int = 12
) -> LabelledNode | None:
    """A node with the values of an attribute that have at least `fewest` prompts in each split;
    None where fewer than two have."""
    labels, tested = train.labels(attribute), test.labels(attribute)
    values = tuple(
        value
        for value in sorted(set(labels), key=repr)
        if min(labels.count(value), tested.count(value)) >= fewest
    )
    if len(values) < 2:
        return None
    numbers = {value: number for number, value in enumerate(values)}
    kept = [row for row, value in enumerate(labels) if value in numbers]
    held = [row for row, value in enumerate(tested) if value in numbers]
    return LabelledNode(
        node,
        train.select(kept),
        test.select(held),
        values,
        torch.tensor([numbers[labels[row]] for row in kept]),
        torch.tensor([numbers[tested[row]] for row in held]),
    )


def codes_at(dictionary: Dictionary, given: LabelledNode) -> NodeCodes:
    """What a dictionary makes of a labelled node."""
    train = dictionary.codes(given.train)[given.node]
    test = dictionary.codes(given.test)[given.node]
    return NodeCodes(train, test, dictionary.directions(given.node))
