"""ReLU: the plain sparse autoencoder, sparse because an L1 penalty made it so.

Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sage.saes.architectures.architecture import Architecture, Trainer, l1_penalty
from sage.saes.stored import (
    LINEAR_LAYERS,
    DictionaryClass,
    SAELensForm,
    SAELensRecord,
    StoredSAE,
)


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


def _read(stored: StoredSAE) -> ReLU:
    return ReLU(stored.take("W_enc"), stored.take("b_enc"))


architecture = Architecture(
    trainer=Trainer("standard", l1_penalty),
    saelens=SAELensForm(
        names=("standard",),
        read=_read,
        write=lambda encoder: SAELensRecord("standard", encoder.tensors()),
    ),
    dictionary_learning=(
        DictionaryClass(
            "AutoEncoder", _read, ReLU.tensors, array_names={**LINEAR_LAYERS, "b_dec": "bias"}
        ),
        DictionaryClass(
            "AutoEncoderNew",
            _read,
            ReLU.tensors,
            subtracts_b_dec=False,
            array_names={**LINEAR_LAYERS, "b_dec": "decoder.bias"},
        ),
    ),
)
