"""Matryoshka: nested dictionaries, each prefix of the latents trained to reconstruct on its own.

Bussmann et al. 2025, https://arxiv.org/abs/2503.17547. Nesting shapes training only: at inference
the whole dictionary is read, with the activation it was trained with, a threshold (BatchTopK) or
none (ReLU, threshold 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.saes.architectures.architecture import Architecture, Trainer
from sage.saes.architectures.jumprelu import above
from sage.saes.sae_files import unexpected
from sage.saes.stored import (
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


def _configure(settings: TrainingSettings) -> dict[str, Any]:
    """The option `nested` gives the inner widths; by default a quarter and a half of the whole."""
    quarter_and_half = (settings.width // 4, settings.width // 2)
    nested = tuple(cast("Sequence[int]", settings.options.get("nested", quarter_and_half)))
    sizes = [*nested, settings.width]
    if not nested or nested[0] < 1 or not _rising(sizes):
        raise SageError(
            f"nested is {nested}: a matryoshka needs rising widths below its own, {settings.width}."
        )
    return {"k": float(settings.k), "matryoshka_widths": sizes}


def _read_saelens(stored: StoredSAE) -> Matryoshka:
    settings = stored.settings
    sizes = settings.integers("matryoshka_widths")
    if not _rising(sizes) or sizes[-1:] != (stored.width,):
        raise unexpected(
            settings.file,
            "matryoshka_widths",
            list(sizes),
            f"rising widths that end at {stored.width}",
        )
    keeps_k = stored.architecture == "matryoshka_batchtopk"
    k = settings.optional_number("k") if keeps_k else None
    return _read(stored, stored.take("threshold"), sizes, k)


def _write_saelens(encoder: Matryoshka) -> SAELensRecord:
    name = "matryoshka" if encoder.k is None else "matryoshka_batchtopk"
    return jumprelu_record(
        name, encoder.tensors(), k=encoder.k, matryoshka_widths=list(encoder.sizes)
    )


def _read_dictionary(stored: StoredSAE) -> Matryoshka:
    """The widths of the groups of latents stand among the arrays."""
    arrays, width = stored.arrays, stored.width
    groups = arrays.values.pop("group_sizes", torch.zeros(0))
    whole_numbers = groups.ndim == 1 and groups.dtype == torch.int64
    in_range = whole_numbers and bool(((groups > 0) & (groups <= width)).all())
    sizes = tuple(int(size) for size in groups.cumsum(0)) if in_range else ()
    if sizes[-1:] != (width,):
        raise unexpected(
            arrays.file,
            "group_sizes",
            groups.tolist(),
            f"positive whole numbers that sum to {width}",
        )
    return _read(stored, dictionary_threshold(stored), sizes, float(dictionary_k(stored)))


def _write_dictionary(encoder: Matryoshka) -> dict[str, Tensor] | None:
    arrays = thresholded_arrays(encoder.k, encoder.W_enc, encoder.b_enc, encoder.threshold)
    if arrays is None:
        return None
    groups = torch.tensor(encoder.sizes).diff(prepend=torch.zeros(1, dtype=torch.int64))
    return {**arrays, "group_sizes": groups}


def _read(
    stored: StoredSAE, threshold: Tensor, sizes: tuple[int, ...], k: float | None
) -> Matryoshka:
    return Matryoshka(stored.take("W_enc"), stored.take("b_enc"), threshold, sizes, k)


def _rising(sizes: Sequence[int]) -> bool:
    return list(sizes) == sorted(set(sizes))


architecture = Architecture(
    trainer=Trainer("matryoshka_batchtopk", _configure, options=("nested",)),
    saelens=SAELensForm(
        names=("matryoshka_batchtopk",),
        training_names=("matryoshka_batchtopk", "matryoshka"),
        read=_read_saelens,
        write=_write_saelens,
    ),
    dictionary_learning=(
        DictionaryClass("MatryoshkaBatchTopKSAE", _read_dictionary, _write_dictionary),
    ),
)
