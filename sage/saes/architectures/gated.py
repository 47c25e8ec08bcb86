"""Gated: one path decides which latents are active, another how strongly; they share directions.

Rajamanoharan et al. 2024, https://arxiv.org/abs/2404.16014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sage.saes.architectures.architecture import Architecture, Trainer, l1_penalty
from sage.saes.stored import DictionaryClass, SAELensForm, SAELensRecord, StoredSAE


@dataclass(frozen=True, eq=False)
class Gated:
    """f = [x W_enc + b_gate > 0] max(0, exp(r_mag) (x W_enc) + b_mag)."""

    W_enc: Float[Tensor, "d_model latent"]
    b_gate: Float[Tensor, " latent"]
    r_mag: Float[Tensor, " latent"]
    b_mag: Float[Tensor, " latent"]
    name: ClassVar[str] = "gated"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token latent"]:
        """The codes of normalised inputs."""
        shared = x_in @ self.W_enc
        magnitude = torch.relu(shared * self.r_mag.exp() + self.b_mag)
        return magnitude * (shared + self.b_gate > 0)

    def scaled(self, scale: Float[Tensor, " latent"]) -> Gated:
        """The encoder whose codes are these times `scale`, which is positive."""
        return Gated(self.W_enc * scale, self.b_gate * scale, self.r_mag, self.b_mag * scale)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {
            "W_enc": self.W_enc,
            "b_gate": self.b_gate,
            "r_mag": self.r_mag,
            "b_mag": self.b_mag,
        }

    def settings(self) -> dict[str, object]:
        """What is not a weight: nothing."""
        return {}


def _read(stored: StoredSAE) -> Gated:
    return Gated(
        stored.take("W_enc"),
        stored.take("b_gate"),
        stored.take_exponent("r_mag"),
        stored.take("b_mag"),
    )


architecture = Architecture(
    trainer=Trainer("gated", l1_penalty),
    saelens=SAELensForm(
        names=("gated",),
        read=_read,
        write=lambda encoder: SAELensRecord("gated", encoder.tensors()),
    ),
    dictionary_learning=(
        DictionaryClass(
            "GatedAutoEncoder",
            _read,
            Gated.tensors,
            array_names={
                "W_enc": "encoder.weight",
                "b_gate": "gate_bias",
                "b_mag": "mag_bias",
                "W_dec": "decoder.weight",
                "b_dec": "decoder_bias",
            },
        ),
    ),
)
