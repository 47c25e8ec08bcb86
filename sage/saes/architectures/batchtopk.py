"""BatchTopK: trained to keep the k largest codes per token on average over a batch, read with one
threshold.

Bussmann et al. 2024, https://arxiv.org/abs/2412.06410. A choice over the batch would make a token's
codes depend on its neighbours; at inference the threshold that training estimated stands in for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sage.saes.architectures.jumprelu import above


@dataclass(frozen=True, eq=False)
class BatchTopK:
    """f = [p > threshold] max(0, p) with p = x W_enc + b_enc; `k` is what training kept on average,
    if known.

    The threshold is one number in a trained SAE and becomes one for each latent when codes are
    scaled.
    """

    W_enc: Float[Tensor, "d_model latent"]
    b_enc: Float[Tensor, " latent"]
    threshold: Float[Tensor, " latent"]
    k: float | None
    name: ClassVar[str] = "batchtopk"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        return above(x_in @ self.W_enc + self.b_enc, self.threshold)

    def scaled(self, scale: Float[Tensor, " latent"]) -> BatchTopK:
        """The encoder whose codes are these times `scale`, which is positive."""
        return BatchTopK(self.W_enc * scale, self.b_enc * scale, self.threshold * scale, self.k)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "threshold": self.threshold}

    def settings(self) -> dict[str, object]:
        """The average number of latents kept in training."""
        return {"k": self.k}
