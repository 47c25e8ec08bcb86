"""ReLU: the plain sparse autoencoder, sparse because an L1 penalty made it so.

Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ReLU:
    """f = max(0, x W_enc + b_enc)."""

    W_enc: Float[Tensor, "d_model latent"]
    b_enc: Float[Tensor, " latent"]
    name: ClassVar[str] = "relu"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        return torch.relu(x_in @ self.W_enc + self.b_enc)

    def scaled(self, scale: Float[Tensor, " latent"]) -> ReLU:
        """The encoder whose codes are these times `scale`, which is positive."""
        return ReLU(self.W_enc * scale, self.b_enc * scale)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {"W_enc": self.W_enc, "b_enc": self.b_enc}

    def settings(self) -> dict[str, object]:
        """What is not a weight: nothing."""
        return {}
