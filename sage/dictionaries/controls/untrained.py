"""Untrained: an SAE of the same width and sparsity that no gradient has touched.

Method, section 6. Unit random decoder, its transpose as encoder, the mean of the hook's fit tokens
as decoder bias, subtracted before encoding, and the k largest codes kept, k being the judged SAE's
rounded L0 on `fit`.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.controls.setting import EVERY_SCORE, Setting, unit_vectors
from sage.dictionaries.projected import ProjectedSuite
from sage.nodes import Node
from sage.saes.architectures.topk import TopK
from sage.saes.sae import SAE

NAMES = ("untrained",)
RIVAL = EVERY_SCORE


def untrained(sae: SAE, mean: Float[Tensor, "d_model"], *, k: int, seed: int) -> SAE:
    """The untrained SAE in the place of a judged one; `mean` is that of the normalised tokens."""
    directions = unit_vectors(sae.width, sae.d_model, f"untrained/{seed}/{sae.site}")
    W_dec = directions.to(sae.W_dec)
    zeros = W_dec.new_zeros(sae.width)
    return replace(
        sae,
        id=f"untrained {sae.id}",
        encoder=TopK(W_dec.T, zeros, zeros + 1, min(k, sae.width)),
        W_dec=W_dec,
        b_dec=mean.to(W_dec),
        subtract_b_dec=True,
    )


def make(name: str, setting: Setting) -> ProjectedSuite:
    """An untrained SAE at every hook."""
    saes: dict[Node, SAE] = {}
    for hook, k in setting.sparsity.items():
        sae = setting.sae(hook)
        whole = replace(sae, subtract_b_dec=False)
        mean = whole.normalise(setting.tokens(hook)).x_in.double().mean(0).float()
        saes[hook] = untrained(sae, mean, k=k, seed=setting.seed)
    return setting.projected(name, saes)


def depends(name: str, setting: Setting) -> tuple[object, ...]:
    """On width, sparsity and what is done to an input."""
    del name
    return (setting.facts(), tuple(sorted((str(h), k) for h, k in setting.sparsity.items())))
