"""Random: the SAE's own codes on random directions, each as long as the latent's own.

Method, section 6.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.controls.setting import EVERY_SCORE, Setting, unit_vectors
from sage.dictionaries.projected import Latents, ProjectedSuite
from sage.saes.sae import SAE

NAMES = ("random",)
RIVAL = EVERY_SCORE


def random_directions(sae: SAE, latents: Latents, *, seed: int) -> Float[Tensor, "latent d_model"]:
    """A random direction for every latent, as long as the SAE's own."""
    own = sae.W_dec[latents]
    directions = unit_vectors(sae.width, sae.d_model, f"random/{seed}/{sae.site}")
    chosen = latents if isinstance(latents, slice) else latents.to(directions.device)
    return directions[chosen].to(own) * own.norm(dim=-1, keepdim=True)


def make(name: str, setting: Setting) -> ProjectedSuite:
    """The judged suite with other directions."""
    decoder = partial(random_directions, seed=setting.seed)
    return replace(setting.judged, name=name, decoder=decoder)


def depends(name: str, setting: Setting) -> None:
    """On the suite's codes."""
    del name, setting
