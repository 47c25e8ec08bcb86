"""BatchTopK: trained to keep k codes per token on average over a batch, read with one threshold.

Bussmann et al. 2024, https://arxiv.org/abs/2412.06410. A choice over the batch would make a token's
codes depend on its neighbours; at inference the threshold that training estimated stands in for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from sage.saes.architectures.architecture import Architecture, Trainer
from sage.saes.architectures.jumprelu import above
from sage.saes.stored import (
    LINEAR_LAYERS,
    DictionaryClass,
    SAELensForm,
    SAELensRecord,
    StoredSAE,
    dictionary_k,
    dictionary_threshold,
    jumprelu_record,
    thresholded_arrays,
)
from sage.saes.training_settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class BatchTopK:
    """f = [p > threshold] max(0, p) with p = x W_enc + b_enc.

    `k` is what training kept on average, if known. The threshold is one number in a trained SAE and
    becomes one for each latent when codes are scaled.
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


def _configure(settings: TrainingSettings) -> dict[str, Any]:
    return {"k": float(settings.k)}


def _read_saelens(stored: StoredSAE) -> BatchTopK:
    return _read(stored, stored.take("threshold"), stored.settings.optional_number("k"))


def _write_saelens(encoder: BatchTopK) -> SAELensRecord:
    return jumprelu_record("batchtopk", encoder.tensors(), k=encoder.k)


def _read_dictionary(stored: StoredSAE) -> BatchTopK:
    return _read(stored, dictionary_threshold(stored), float(dictionary_k(stored)))


def _write_dictionary(encoder: BatchTopK) -> dict[str, Tensor] | None:
    return thresholded_arrays(encoder.k, encoder.W_enc, encoder.b_enc, encoder.threshold)


def _read(stored: StoredSAE, threshold: Tensor, k: float | None) -> BatchTopK:
    return BatchTopK(stored.take("W_enc"), stored.take("b_enc"), threshold, k)


architecture = Architecture(
    trainer=Trainer("batchtopk", _configure),
    saelens=SAELensForm(
        names=("batchtopk",),
        training_names=("batchtopk",),
        read=_read_saelens,
        write=_write_saelens,
    ),
    dictionary_learning=(
        DictionaryClass(
            "BatchTopKSAE", _read_dictionary, _write_dictionary, array_names=LINEAR_LAYERS
        ),
    ),
)
