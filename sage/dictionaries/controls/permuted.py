"""Permuted: the SAE's own directions, dealt out to its latents anew.

Method, section 6.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.controls.setting import EVERY_SCORE, Setting, generator
from sage.dictionaries.projected import Latents, ProjectedSuite
from sage.saes.sae import SAE

NAMES = ("permuted",)
RIVAL = EVERY_SCORE


def permuted_directions(
    sae: SAE, latents: Latents, *, seed: int
) -> Float[Tensor, "latent d_model"]:
    """The SAE's own directions in another order."""
    order = torch.randperm(sae.width, generator=generator(f"permuted/{seed}/{sae.site}"))
    return sae.W_dec[order.to(sae.W_dec.device)[latents]]


def make(name: str, setting: Setting) -> ProjectedSuite:
    """The judged suite with its directions in another order."""
    decoder = partial(permuted_directions, seed=setting.seed)
    return replace(setting.judged, name=name, decoder=decoder)


def depends(name: str, setting: Setting) -> None:
    """On the suite's codes and directions."""
    del name, setting
