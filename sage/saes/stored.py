"""An SAE as other libraries store it: their names of architectures, settings and arrays.

What a library calls one architecture stands in that architecture's file, in these words; what
holds for all of them stands in the format's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from sage.saes.sae import Encoder
from sage.saes.sae_files import Arrays, Fields, finite, unexpected

E = TypeVar("E", bound=Encoder)

# dictionary_learning's names of the arrays of two linear layers.
LINEAR_LAYERS = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}


@dataclass(frozen=True)
class StoredSAE:
    """What a file holds of an SAE, before its architecture makes an encoder of it.

    `architecture` is the library's name of it, `settings` the part of the configuration that
    concerns it, `array_names` the library's names of arrays, by ours, where they differ.
    """

    architecture: str
    settings: Fields
    arrays: Arrays
    d_model: int
    width: int
    array_names: Mapping[str, str] = field(default_factory=dict[str, str])

    def take(self, name: str) -> Tensor:
        """The array that we call so, in our orientation; BadFile where it is missing or damaged.

        Shapes: W_enc [d_model, latent], W_dec [latent, d_model], b_dec [d_model], others [latent].
        """
        shapes = {
            "W_enc": [self.d_model, self.width],
            "W_dec": [self.width, self.d_model],
            "b_dec": [self.d_model],
        }
        shape = shapes.get(name, [self.width])
        stored_name = self.array_names.get(name, name)
        if is_transposed(stored_name):
            return self.arrays.take(stored_name, shape[::-1]).T.contiguous()
        return self.arrays.take(stored_name, shape)

    def take_exponent(self, name: str) -> Tensor:
        """The array that we call so, whose exponential is finite too."""
        array = self.take(name)
        finite(array.exp(), self.arrays.file, f"exp({name})")
        return array

    def at_most_width(self, k: int) -> int:
        """The number of latents kept; BadFile where there are not that many."""
        if k > self.width:
            raise unexpected(self.settings.file, "k", k, f"at most the {self.width} latents")
        return k


def is_transposed(array_name: str) -> bool:
    """Whether an array is the weight of a linear layer, which is stored as [out, in]."""
    return array_name.endswith(".weight")


@dataclass(frozen=True)
class SAELensRecord:
    """An encoder as SAELens 6 stores it.

    Its name there, fields of the configuration, arrays, and fields of the metadata.
    """

    architecture: str
    arrays: Mapping[str, Tensor]
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class SAELensForm(Generic[E]):
    """How SAELens stores an architecture.

    `names`: what the configuration says as `architecture`. `training_names`: what it says as
    `training_architecture` of a JumpReLU that was this one in training.
    """

    names: tuple[str, ...]
    read: Callable[[StoredSAE], E]
    write: Callable[[E], SAELensRecord]
    training_names: tuple[str, ...] = ()


def jumprelu_record(
    trained_as: str, arrays: Mapping[str, Tensor], **details: object
) -> SAELensRecord:
    """The record of what is a JumpReLU at inference and was something else in training."""
    metadata = {"training_architecture": trained_as, "training_architecture_details": details}
    return SAELensRecord("jumprelu", arrays, metadata=metadata)


@dataclass(frozen=True)
class DictionaryClass(Generic[E]):
    """A class of dictionary_learning that holds SAEs of an architecture.

    `subtracts_b_dec`: its encoder reads x - b_dec. `array_names`: its names of arrays, by ours,
    where they differ. `write` gives the arrays of an encoder under our names; None where the class
    has no words for it.
    """

    name: str
    read: Callable[[StoredSAE], E]
    write: Callable[[E], dict[str, Tensor] | None]
    subtracts_b_dec: bool = True
    array_names: Mapping[str, str] = field(default_factory=dict[str, str])


def dictionary_k(stored: StoredSAE) -> int:
    """The k of a dictionary_learning SAE; BadFile where configuration and arrays disagree on it."""
    k = stored.settings.integer("k")
    array = stored.arrays.values.pop("k", torch.tensor(k))
    if array.numel() != 1 or array.is_complex() or array.item() != k:
        raise unexpected(stored.arrays.file, "k", array.tolist(), f"{k}, as the configuration says")
    if k > stored.width:
        raise unexpected(stored.arrays.file, "k", k, f"at most the {stored.width} latents")
    return k


def dictionary_threshold(stored: StoredSAE) -> Tensor:
    """The one threshold of a dictionary_learning SAE, for each latent.

    One below 0 marks what training never set: every positive code counts.
    """
    threshold = stored.arrays.take("threshold", []).clamp(min=0)
    return threshold.expand(stored.width).contiguous()


def thresholded_arrays(
    k: float | None, W_enc: Tensor, b_enc: Tensor, threshold: Tensor
) -> dict[str, Tensor] | None:
    """The arrays of dictionary_learning for an encoder that keeps k latents on average.

    None where k is no whole number or latents differ in threshold: there are no words for it.
    """
    if not k or k != int(k) or (threshold != threshold[0]).any():
        return None
    return {
        "W_enc": W_enc,
        "b_enc": b_enc,
        "k": torch.tensor(int(k), dtype=torch.int),
        "threshold": threshold[0].clone(),
    }
