"""ProLU: a threshold with a gradient, because the bias gates and is not added.

Taggart 2024,
https://www.alignmentforum.org/posts/HEpufTdakGTTKgoYF/prolu-a-nonlinearity-for-sparse-autoencoders;
method, section 9. The forward pass is a JumpReLU with threshold max(-b, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.saes.architectures._prolu_function import Gradient, prolu
from sage.saes.architectures.architecture import Architecture, Trainer, l1_penalty
from sage.saes.sae_files import unexpected
from sage.saes.stored import SAELensForm, SAELensRecord, StoredSAE, jumprelu_record
from sage.saes.training_settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class ProLU:
    """f = m [m > 0 and m + b_enc > 0] with m = x W_enc.

    `gradient` is the variant it was trained with.
    """

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


def _configure(settings: TrainingSettings) -> dict[str, Any]:
    gradient = settings.options.get("gradient", "ste")
    if gradient not in ("relu", "ste"):
        raise SageError(f"gradient is {gradient!r}: the training of prolu has 'relu' and 'ste'.")
    return {**l1_penalty(settings), "gradient": gradient}


def _register() -> None:
    from sage.saes.architectures import _prolu_training

    _prolu_training.register()


def _read(stored: StoredSAE) -> ProLU:
    b_enc, threshold = stored.take("b_enc"), stored.take("threshold")
    gradient = stored.settings.text("gradient", "relu")
    if b_enc.any() or gradient not in ("relu", "ste"):
        raise unexpected(
            stored.settings.file,
            "training_architecture",
            stored.architecture,
            "a bias of 0 and a gradient 'relu' or 'ste'",
        )
    return ProLU(stored.take("W_enc"), -threshold, gradient)


def _write(encoder: ProLU) -> SAELensRecord:
    """A JumpReLU. It asks m > 0 beside m > threshold, so -b is a threshold that keeps all of b."""
    arrays = {
        "W_enc": encoder.W_enc,
        "b_enc": torch.zeros_like(encoder.b_enc),
        "threshold": -encoder.b_enc,
    }
    return jumprelu_record("prolu", arrays, gradient=encoder.gradient)


architecture = Architecture(
    trainer=Trainer("prolu", _configure, options=("gradient",), register=_register),
    saelens=SAELensForm(names=(), training_names=("prolu",), read=_read, write=_write),
)
