"""JumpReLU: a latent is silent up to its own learned threshold and linear above it.

Rajamanoharan et al. 2024, https://arxiv.org/abs/2407.14435.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sage.saes.architectures.architecture import Architecture, Trainer
from sage.saes.stored import DictionaryClass, SAELensForm, SAELensRecord, StoredSAE
from sage.saes.training_settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class JumpReLU:
    """f = [p > threshold] max(0, p) with p = x W_enc + b_enc."""

    W_enc: Float[Tensor, "d_model latent"]
    b_enc: Float[Tensor, " latent"]
    threshold: Float[Tensor, " latent"]
    name: ClassVar[str] = "jumprelu"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        return above(x_in @ self.W_enc + self.b_enc, self.threshold)

    def scaled(self, scale: Float[Tensor, " latent"]) -> JumpReLU:
        """The encoder whose codes are these times `scale`, which is positive."""
        return JumpReLU(self.W_enc * scale, self.b_enc * scale, self.threshold * scale)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "threshold": self.threshold}

    def settings(self) -> dict[str, object]:
        """What is not a weight: nothing."""
        return {}


def above(
    p: Float[Tensor, "*token latent"], threshold: Float[Tensor, " latent"]
) -> Float[Tensor, "*token latent"]:
    """Pre-activations above their threshold and above zero; the rest is 0.

    A negative threshold lets nothing negative through.
    """
    return torch.relu(p) * (p > threshold)


def _configure(settings: TrainingSettings) -> dict[str, Any]:
    return {"l0_coefficient": settings.penalty, "l0_warm_up_steps": settings.warm_up}


def _read(stored: StoredSAE) -> JumpReLU:
    return JumpReLU(stored.take("W_enc"), stored.take("b_enc"), stored.take("threshold"))


architecture = Architecture(
    trainer=Trainer("jumprelu", _configure),
    saelens=SAELensForm(
        names=("jumprelu",),
        read=_read,
        write=lambda encoder: SAELensRecord("jumprelu", encoder.tensors()),
    ),
    dictionary_learning=(
        DictionaryClass("JumpReluAutoEncoder", _read, JumpReLU.tensors, subtracts_b_dec=False),
    ),
)
