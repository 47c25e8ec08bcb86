"""The ProLU function, and two gradients that stand in for its own in training.

Taggart 2024; method, section 9. The true gradient says nothing about the bias b: training uses
`relu`, the gradient a ReLU would have, or `ste`, a straight-through estimate of the jump.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Gradient = Literal["relu", "ste"]


def prolu(
    m: Float[Tensor, "*token latent"], b: Float[Tensor, " latent"], *, gradient: Gradient
) -> Float[Tensor, "*token latent"]:
    """m where both m and m + b are positive, else 0, with the chosen stand-in gradient."""
    return (_ReLUGradient if gradient == "relu" else _StraightThrough).apply(m, b)


class _ReLUGradient(torch.autograd.Function):
    """With g the incoming gradient where the latent is active: dm = g, db = g."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, b: Tensor) -> Tensor:
        gate = _gate(m, b)
        ctx.save_for_backward(gate, b)
        return m * gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, b = ctx.saved_tensors
        g = grads[0] * gate
        return g, g.sum_to_size(b.shape)


class _StraightThrough(torch.autograd.Function):
    """With g the incoming gradient where the latent is active: dm = g + g m, db = g m."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, b: Tensor) -> Tensor:
        gate = _gate(m, b)
        ctx.save_for_backward(gate, m, b)
        return m * gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, m, b = ctx.saved_tensors
        g = grads[0] * gate
        return g + g * m, (g * m).sum_to_size(b.shape)


def _gate(m: Tensor, b: Tensor) -> Tensor:
    return (m > 0) & (m + b > 0)
