"""What a family tells of its Hugging Face module: its anatomy, and where activations stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sage.models.anatomy import Anatomy, Norm
from sage.models.network import Network

Layout = Literal["whole", "heads", "qkv heads", "heads qkv"]


class Location(NamedTuple):
    """Where an activation stands: a submodule of a block (nothing for the block itself), its input
    or output, and how heads are laid out there.

    `element` is the index in a tuple output, None for a tensor. Layouts: `whole`, no heads;
    `heads`, [head * d_head]; `qkv heads`, [3 * head * d_head]; `heads qkv`, [head * 3 * d_head].
    """

    module: str
    side: Literal["input", "output"]
    layout: Layout = "whole"
    element: int | None = None


@dataclass(frozen=True)
class Family:
    """One model family. `blocks` is the path of its blocks, `locations` where each kind of node
    stands in a block, in the order of computation.

    `bos` is whether prompts begin with the BOS token; `only` the fields of the configuration that
    must have one value, because the anatomy describes no other; `network` gives all the weights,
    for a forward pass of our own.
    """

    model_type: str
    example: str
    bos: bool
    only: Mapping[str, object]
    blocks: str
    locations: dict[str, Location]
    anatomy: Callable[[Any], Anatomy]
    network: Callable[[Any, Anatomy], Network]


def layer_norm(module: Any) -> Norm:
    """A torch LayerNorm."""
    return Norm("layer", module.weight, module.bias, float(module.eps))
