"""ProLU: a threshold that receives a gradient, because the bias gates the pre-activation without
being added to it.

Taggart 2024,
https://www.alignmentforum.org/posts/HEpufTdakGTTKgoYF/prolu-a-nonlinearity-for-sparse-autoencoders;
method, section 9. The forward pass is a JumpReLU with threshold max(-b, 0). Its true gradient says
nothing about b, so training uses one of two stand-ins: `relu`, the gradient a ReLU would have, and
`ste`, a straight-through estimate of the jump.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Gradient = Literal["relu", "ste"]


@dataclass(frozen=True, eq=False)
class ProLU:
    """f = m [m > 0 and m + b > 0] with m = x W_enc; `gradient` is the variant it was trained with."""

    W_enc: Float[Tensor, "d_model latent"]
    b_enc: Float[Tensor, " latent"]
    gradient: Gradient
    name: ClassVar[str] = "prolu"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        return prolu(x_in @ self.W_enc, self.b_enc, gradient=self.gradient)

    def scaled(self, scale: Float[Tensor, " latent"]) -> ProLU:
        """The encoder whose codes are these times `scale`, which is positive."""
        return ProLU(self.W_enc * scale, self.b_enc * scale, self.gradient)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {"W_enc": self.W_enc, "b_enc": self.b_enc}

    def settings(self) -> dict[str, object]:
        """The gradient it was trained with."""
        return {"gradient": self.gradient}


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
