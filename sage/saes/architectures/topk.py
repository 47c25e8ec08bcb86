"""TopK: of each token's pre-activations the k largest are kept.

Gao et al. 2024, https://arxiv.org/abs/2406.04093.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TopK:
    """f = max(0, p) at the k largest of priority * p, with p = x W_enc + b_enc; 0 elsewhere.

    `priority` is 1 in every trained SAE. Scaling the codes of a latent (to give it a unit decoder,
    say) must not change which latents win, so the scale is taken back in the comparison.
    """

    W_enc: Float[Tensor, "d_model latent"]
    b_enc: Float[Tensor, " latent"]
    priority: Float[Tensor, " latent"]
    k: int
    name: ClassVar[str] = "topk"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        p = x_in @ self.W_enc + self.b_enc
        winners = torch.topk(p * self.priority, self.k, dim=-1, sorted=False).indices
        return torch.zeros_like(p).scatter(-1, winners, torch.relu(p.gather(-1, winners)))

    def scaled(self, scale: Float[Tensor, " latent"]) -> TopK:
        """The encoder whose codes are these times `scale`, which is positive; the same latents win."""
        return TopK(self.W_enc * scale, self.b_enc * scale, self.priority / scale, self.k)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "priority": self.priority}

    def settings(self) -> dict[str, object]:
        """The number of latents kept for each token."""
        return {"k": self.k}
