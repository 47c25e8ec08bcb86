"""Nodes taken out of whole activations: one head, one position, of every prompt of a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from sage.models.edits import hook_point
from sage.models.steps import HookPoint
from sage.nodes import EVERYWHERE, HEAD_KINDS, Node
from sage.task.tokens import Tokenized


class NodeValues:
    """Values at nodes, filled in batch by batch: [prompt, d], [prompt, position, d] at `*`, zero
    beyond a prompt's end."""

    def __init__(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> None:
        self.nodes = nodes
        self.prompts = prompts
        self.longest = max(len(prompt.ids) for prompt in prompts)
        self.values: dict[Node, Tensor] = {}

    def fill(self, rows: Sequence[int], activations: Mapping[HookPoint, Tensor]) -> None:
        """Take the nodes out of the activations of the prompts in these rows, of one length."""
        batch = [self.prompts[row] for row in rows]
        for node in self.nodes:
            value = _take(activations[hook_point(node)], node, batch).detach().float()
            if node not in self.values:
                self.values[node] = self._room(node, value)
            sizes = (slice(size) for size in value.shape[1:])
            self.values[node][(list(rows), *sizes)] = value

    def _room(self, node: Node, value: Tensor) -> Tensor:
        """Zeros for a node's values in all prompts."""
        sizes = [
            self.longest if _counts_positions(node, axis) else size
            for axis, size in enumerate(value.shape)
        ]
        return value.new_zeros(len(self.prompts), *sizes[1:])


def _take(activation: Tensor, node: Node, prompts: Sequence[Tokenized]) -> Tensor:
    """One node of a whole activation: its head, its position."""
    if node.kind == "pattern":
        activation = activation[:, node.head]
    elif node.kind in HEAD_KINDS:
        activation = activation[:, :, node.head]
    if node.position == EVERYWHERE:
        return activation
    positions = [prompt.index[node.position] for prompt in prompts]
    return activation[range(len(prompts)), positions]


def _counts_positions(node: Node, axis: int) -> bool:
    """Whether an axis of a node's values counts positions."""
    if node.kind == "pattern":
        return axis > 0
    return axis == 1 and node.position == EVERYWHERE
