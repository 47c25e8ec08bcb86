"""Matryoshka: nested dictionaries, each prefix of the latents trained to reconstruct on its own.

Bussmann et al. 2025, https://arxiv.org/abs/2503.17547. Nesting shapes training only: at inference
the whole dictionary is read, with the activation it was trained with, a threshold (BatchTopK) or
none (ReLU, threshold 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sage.saes.architectures.jumprelu import above


@dataclass(frozen=True, eq=False)
class Matryoshka:
    """f = [p > threshold] max(0, p) with p = x W_enc + b_enc.

    `sizes` are the widths of the nested dictionaries, rising, the last one the whole; `k` is what
    training kept on average, None where it was trained as a ReLU.
    """

    W_enc: Float[Tensor, "d_model latent"]
    b_enc: Float[Tensor, " latent"]
    threshold: Float[Tensor, " latent"]
    sizes: tuple[int, ...]
    k: float | None
    name: ClassVar[str] = "matryoshka"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        return above(x_in @ self.W_enc + self.b_enc, self.threshold)

    def scaled(self, scale: Float[Tensor, " latent"]) -> Matryoshka:
        """The encoder whose codes are these times `scale`, which is positive."""
        return Matryoshka(
            self.W_enc * scale, self.b_enc * scale, self.threshold * scale, self.sizes, self.k
        )

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "threshold": self.threshold}

    def settings(self) -> dict[str, object]:
        """The nested widths and the average number of latents kept in training."""
        return {"sizes": list(self.sizes), "k": self.k}
