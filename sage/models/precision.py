"""Half precision: whether a model computes in it what it is in float32.

float16 ends at 65504, and some models' activations do not; both halves round to a few digits, which
is nothing as long as what is rounded away is small beside what the next norm keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.models.anatomy import Anatomy, Norm
from sage.nodes import EVERYWHERE, Node
from sage.task.tokens import Tokenized

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# How many prompts are looked at.
_PROMPTS = 16
# A rounding error may be this share of what a norm keeps: it is .004 of it where nothing is amiss.
_LARGEST_ERROR = 0.1


@runtime_checkable
class Readable(Protocol):
    """A model, as far as it is read."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def dtype(self) -> str:
        """The type of its weights."""
        ...

    @property
    def anatomy(self) -> Anatomy:
        """Its parts."""
        ...

    def read(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> dict[Node, Tensor]:
        """Values at nodes."""
        ...


def check_precision(model: Readable, prompts: Sequence[Tokenized]) -> None:
    """SageError where a model in half precision overflows on prompts, or rounds away what its norms
    keep; nothing is looked at in float32."""
    if model.dtype not in HALVES:
        return
    layers = range(model.anatomy.layers)
    streams = {Node("resid_pre", layer, position=EVERYWHERE): layer for layer in layers}
    read = model.read(list(streams), prompts[:_PROMPTS])
    for node, layer in streams.items():
        norm = model.anatomy.blocks[layer].attention_norm
        error = rounding_error(read[node].float(), norm, HALVES[model.dtype])
        if error > _LARGEST_ERROR:
            raise SageError(
                f"{model.name} in {model.dtype} is not what it is in float32: at {node} rounding "
                f"is {error:.2g} of what the layer's norm keeps. Give --dtype float32."
            )


def rounding_error(x: Float[Tensor, "*many d_model"], norm: Norm, dtype: torch.dtype) -> float:
    """The largest error that rounding vectors to a type makes, over the scale that a norm divides
    them by: |x| u / s(x), with u half the distance of 1 to the next number."""
    size = x.square().mean(-1, keepdim=True).sqrt()
    shares = size * (torch.finfo(dtype).eps / 2) / norm.scale(x)
    return float(shares.max())


def check_finite(values: Tensor, model_name: str, dtype: str) -> None:
    """SageError where what a model says in half precision is not finite."""
    if dtype in HALVES and not bool(values.isfinite().all()):
        other = "bfloat16 or float32" if dtype == "float16" else "float32"
        raise SageError(
            f"{model_name} overflows in {dtype}, whose largest number is "
            f"{torch.finfo(HALVES[dtype]).max:.3g}: what it says is not finite. "
            f"Give --dtype {other}."
        )
