"""Reconstruction: what an SAE makes of residual streams, token by token and latent by latent.

Relative reconstruction bias, E|x_hat|^2 / E<x, x_hat>, is that of Rajamanoharan et al. 2024, arXiv
2404.16014.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.saes.sae import SAE, token_chunks
from sage.stats import Estimate

# Latents active on more than this share of tokens are dense.
DENSE = 0.1
# Groups of sequences that are left out in turn, for the errors of shares of latents.
GROUPS = 20
HALF_WIDTH = 1.959964
TOKEN_SUMS = ("active", "error", "variance", "cosine", "norm", "product")


class Reconstructed(NamedTuple):
    """Reconstructions of tokens, what is measured of each token (the columns TOKEN_SUMS), and how
    often each latent is active in each group of tokens."""

    x_hat: Float[Tensor, "token d_model"]
    measured: Float[Tensor, "token column"]
    active: Int[Tensor, "group latent"]


class LatentShare(NamedTuple):
    """A share of the latents, on all sequences and without each group of them in turn."""

    whole: float
    without: Float[np.ndarray, "group"]

    def estimate(self, *, n: int) -> Estimate:
        """With the standard error of the jackknife (Efron and Tibshirani 1993, chapter 11), which
        leaves one group out at a time; its interval is cut to [0, 1]."""
        groups = len(self.without)
        if groups < 2:
            return Estimate(self.whole, float("nan"), float("nan"), float("nan"), n)
        deviations = self.without - self.without.mean()
        error = float(np.sqrt((groups - 1) / groups * np.square(deviations).sum()))
        low, high = self.whole - HALF_WIDTH * error, self.whole + HALF_WIDTH * error
        return Estimate(self.whole, error, max(0.0, low), min(1.0, high), n)


def reconstruct_tokens(
    sae: SAE,
    x: Float[Tensor, "token d_model"],
    mean: Float[Tensor, " d_model"],
    group: Int[Tensor, "token"],
    counted: Tensor,
) -> Reconstructed:
    """What the SAE makes of tokens.

    `mean` is what variance is about, `group` the group of each token's sequence; latents are
    counted where the token is `counted`.
    """
    active = torch.zeros(GROUPS, sae.width, dtype=torch.int32, device=x.device)
    reconstructions: list[Tensor] = []
    measured: list[Tensor] = []
    start = 0
    for chunk in token_chunks(sae, x.float()):
        part = slice(start, start + len(chunk))
        start += len(chunk)
        given = sae.normalise(chunk)
        codes = sae.encoder.encode(given.x_in)
        x_hat = sae.decode(codes, given=given)
        on = codes != 0
        active.index_add_(0, group[part][counted[part]], on[counted[part]].int())
        reconstructions.append(x_hat)
        measured.append(torch.stack([on.sum(-1).float(), *_compare(chunk, x_hat, mean)], -1))
    return Reconstructed(torch.cat(reconstructions), torch.cat(measured), active)


def latent_shares(
    active: Int[Tensor, "group latent"], tokens: Int[Tensor, "group"]
) -> tuple[LatentShare, LatentShare]:
    """The shares of latents that are dead and that are dense."""
    used = [number for number, count in enumerate(tokens.tolist()) if count]
    all_active, all_tokens = active.sum(0), int(tokens.sum())
    dead: list[float] = []
    dense: list[float] = []
    for number in [None, *(used if len(used) > 1 else [])]:
        rest = all_active if number is None else all_active - active[number]
        count = all_tokens if number is None else all_tokens - int(tokens[number])
        dead.append((rest == 0).double().mean().item())
        dense.append((rest > DENSE * count).double().mean().item())
    return (
        LatentShare(dead[0], np.array(dead[1:])),
        LatentShare(dense[0], np.array(dense[1:])),
    )


def _compare(
    x: Float[Tensor, "token d_model"],
    x_hat: Float[Tensor, "token d_model"],
    mean: Float[Tensor, " d_model"],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Squared error, squared distance from the mean, cosine, |x_hat|^2 and <x, x_hat>."""
    return (
        (x - x_hat).square().sum(-1),
        (x - mean).square().sum(-1),
        torch.cosine_similarity(x, x_hat, dim=-1),
        x_hat.square().sum(-1),
        (x * x_hat).sum(-1),
    )
