"""PCA and neurons: the coordinates of a basis about the mean, as sparse as the judged SAE.

Method, section 6. Of every token the largest coordinates in size are kept, as many as the judged
SAE's rounded L0; there is one latent per axis, with a signed, unclipped code. Neither has ever seen
a label; both reconstruct by construction, so that they are no rivals in approximation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.controls.setting import APPROXIMATION, EVERY_SCORE, Setting
from sage.dictionaries.projected import ProjectedSuite
from sage.nodes import Node
from sage.saes.sae import SAE

PCA, NEURONS = "PCA", "neurons"
NAMES = (PCA, NEURONS)
RIVAL = EVERY_SCORE - {APPROXIMATION}


@dataclass(frozen=True, eq=False)
class LargestCoordinates:
    """An encoder that keeps the k coordinates that are largest in size, with their signs."""

    W_enc: Float[Tensor, "d_model axis"]
    k: int
    name: ClassVar[str] = "coordinates"

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token axis"]:
        """The coordinates, all but the k largest in size set to 0."""
        coordinates = x_in @ self.W_enc
        kept = coordinates.abs().topk(min(self.k, coordinates.shape[-1]), dim=-1).indices
        return torch.zeros_like(coordinates).scatter(-1, kept, coordinates.gather(-1, kept))

    def scaled(self, scale: Float[Tensor, " axis"]) -> LargestCoordinates:
        """Coordinates have no scale of their own."""
        del scale
        raise AssertionError("a basis is never rescaled")

    def tensors(self) -> dict[str, Tensor]:
        """The axes."""
        return {"W_enc": self.W_enc}

    def settings(self) -> dict[str, object]:
        """How many are kept."""
        return {"k": self.k}


def principal_axes(tokens: Float[Tensor, "token d_model"]) -> Float[Tensor, "axis d_model"]:
    """The principal axes of tokens about their mean, the first with the largest variance; in
    float64."""
    centred = tokens.double() - tokens.double().mean(0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    return axes.T.flip(0).float()


def make(name: str, setting: Setting) -> ProjectedSuite:
    """The basis at every hook."""
    saes: dict[Node, SAE] = {}
    for hook, k in setting.sparsity.items():
        sae, tokens = setting.sae(hook), setting.tokens(hook)
        axes = principal_axes(tokens) if name == PCA else torch.eye(sae.d_model)
        W_dec = axes.to(sae.W_dec)
        encoder = LargestCoordinates(W_dec.T, min(k, sae.d_model))
        mean = tokens.double().mean(0).to(W_dec)
        saes[hook] = SAE(
            f"{name} {sae.id}", encoder, W_dec, mean, sae.hook,
            subtract_b_dec=True, reads_bos=False,
        )  # fmt: skip
    return setting.projected(name, saes, signed=True)


def depends(name: str, setting: Setting) -> tuple[object, ...]:
    """On sparsity."""
    del name
    return tuple(sorted((str(hook), k) for hook, k in setting.sparsity.items()))
