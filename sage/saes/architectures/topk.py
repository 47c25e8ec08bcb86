"""TopK: of each token's pre-activations the k largest are kept.

Gao et al. 2024, https://arxiv.org/abs/2406.04093.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.saes.architectures.architecture import Architecture, Trainer
from sage.saes.sae import SAE, scale_codes
from sage.saes.sparse import Entries
from sage.saes.stored import (
    LINEAR_LAYERS,
    DictionaryClass,
    SAELensForm,
    SAELensRecord,
    StoredSAE,
    dictionary_k,
)
from sage.saes.training_settings import TrainingSettings

# What dictionary_learning stores as the threshold of an SAE that uses none.
_NO_THRESHOLD = -1.0


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
        winners, codes = self._kept(x_in)
        nothing = codes.new_zeros(*codes.shape[:-1], len(self.b_enc))
        return nothing.scatter(-1, winners, codes)

    def encode_sparse(self, x_in: Float[Tensor, "token d_model"]) -> Entries:
        """The codes that are not 0, token by token, without a matrix of all of them."""
        winners, codes = self._kept(x_in)
        winners, order = winners.sort(-1)
        codes = codes.gather(-1, order)
        token, place = codes.nonzero(as_tuple=True)
        return Entries(token, winners[token, place], codes[token, place])

    def _kept(self, x_in: Tensor) -> tuple[Tensor, Tensor]:
        """The latents that win at each token, and their codes."""
        p = (x_in @ self.W_enc).add_(self.b_enc)
        compared = p if self._compared_as_they_are else p * self.priority
        winners = torch.topk(compared, self.k, dim=-1, sorted=False).indices
        return winners, torch.relu(p.gather(-1, winners))

    @cached_property
    def _compared_as_they_are(self) -> bool:
        return bool((self.priority == 1).all())

    def scaled(self, scale: Float[Tensor, " latent"]) -> TopK:
        """The encoder whose codes are these times `scale`, which is positive.

        The same latents win.
        """
        return TopK(self.W_enc * scale, self.b_enc * scale, self.priority / scale, self.k)

    def tensors(self) -> dict[str, Tensor]:
        """The weights, by field."""
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "priority": self.priority}

    def settings(self) -> dict[str, object]:
        """The number of latents kept for each token."""
        return {"k": self.k}


def topk_by_trained_codes(sae: SAE) -> SAE:
    """The SAE of a TopK whose codes are compared as they are: scaled back to priority 1."""
    assert isinstance(sae.encoder, TopK)
    return scale_codes(sae, sae.encoder.priority)


def _configure(settings: TrainingSettings) -> dict[str, Any]:
    if settings.k != int(settings.k):
        raise SageError(f"k is {settings.k:g}: a token keeps under topk a whole number of latents.")
    return {"k": int(settings.k)}


def _read_saelens(stored: StoredSAE) -> TopK:
    settings = stored.settings
    if settings.values.get("k") is None:  # before SAELens 6
        settings = settings.child("activation_fn_kwargs")
    return _read(stored, stored.at_most_width(settings.integer("k")))


def _write_saelens(encoder: TopK) -> SAELensRecord:
    settings = {"k": encoder.k, "rescale_acts_by_decoder_norm": False}
    return SAELensRecord("topk", {"W_enc": encoder.W_enc, "b_enc": encoder.b_enc}, settings)


def _read_dictionary(stored: StoredSAE) -> TopK:
    if "threshold" in stored.arrays.values:
        stored.arrays.take("threshold", [])
    return _read(stored, dictionary_k(stored))


def _write_dictionary(encoder: TopK) -> dict[str, Tensor]:
    return {
        "W_enc": encoder.W_enc,
        "b_enc": encoder.b_enc,
        "k": torch.tensor(encoder.k, dtype=torch.int),
        "threshold": torch.tensor(_NO_THRESHOLD),
    }


def _read(stored: StoredSAE, k: int) -> TopK:
    b_enc = stored.take("b_enc")
    return TopK(stored.take("W_enc"), b_enc, torch.ones_like(b_enc), k)


architecture = Architecture(
    trainer=Trainer("topk", _configure),
    saelens=SAELensForm(names=("topk",), read=_read_saelens, write=_write_saelens),
    dictionary_learning=(
        DictionaryClass(
            "AutoEncoderTopK", _read_dictionary, _write_dictionary, array_names=LINEAR_LAYERS
        ),
    ),
    storable=topk_by_trained_codes,
)
