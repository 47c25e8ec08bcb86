"""A model that remembers: what was read of it before comes from the store.

Whole residual streams are by far the largest part of what is read, and suites share them one by
one: each is kept by itself, so that a suite at another stream reads that stream alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from sage.models.anatomy import Anatomy
from sage.models.base import Model
from sage.nodes import EVERYWHERE, Node
from sage.store.key import Key
from sage.store.store import Store
from sage.task.tokens import Tokenized

KIND = "activations"


@dataclass(frozen=True, eq=False)
class Remembered:
    """Reads a model at nodes as the model itself does, and nothing twice.

    `key` is the model's, for all that its activations depend on beside nodes and prompts.
    """

    model: Model
    store: Store
    key: Key

    @property
    def anatomy(self) -> Anatomy:
        """The model's parts."""
        return self.model.anatomy

    @property
    def sink(self) -> bool:
        """Whether position 0 holds a token apart, as of the model."""
        return self.model.sink

    def read(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> dict[Node, Tensor]:
        """Values at nodes, [prompt, d]; a node at `*` is [prompt, position, d], as of the model.

        Nodes at `*` are kept each by itself, all others together; what is not kept is read in one
        go.
        """
        read_of = [(prompt.ids, sorted(prompt.index.items())) for prompt in prompts]
        key = self.key.about(repr(read_of))
        values: dict[Node, Tensor] = {}
        missing: list[tuple[Node, ...]] = []
        for group in _groups(nodes):
            kept = self.store.find(KIND, _key(key, group))
            if kept is None:
                missing.append(group)
            else:
                values |= dict(zip(group, kept, strict=True))
        if missing:
            read = self.model.read([node for group in missing for node in group], prompts)
            for group in missing:
                kept = self.store.keep(KIND, _key(key, group), [read.pop(node) for node in group])
                values |= dict(zip(group, kept, strict=True))
        return values


def _groups(nodes: Collection[Node]) -> list[tuple[Node, ...]]:
    """The nodes that are kept together: each at `*` by itself, all others."""
    named = tuple(dict.fromkeys(node for node in nodes if node.position != EVERYWHERE))
    streams = dict.fromkeys(node for node in nodes if node.position == EVERYWHERE)
    return [*([named] if named else []), *((stream,) for stream in sorted(streams))]


def _key(prompts: Key, group: tuple[Node, ...]) -> Key:
    return prompts.about([str(node) for node in group])
