"""When a latent is active, and how well that predicts a property of the prompt.

A latent is active where its code is above 0; at z, where almost every code is, above a threshold
chosen for each latent and predicate on `fit`. F1 is corrected for chance: always-on has F1_on =
2p/(1+p) at prevalence p (method, section 5, T3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.memory import PREDICATE_NUMBERS_AT_ONCE

# Latents are sorted by how many prompts they are active on into this many classes and one more,
# each half as active as the one before.
_HALVINGS = 6


class Detectors(NamedTuple):
    """Every latent as a detector of every predicate, as chosen on `fit`: counts at the threshold
    that is best for F1."""

    threshold: Float[Tensor, "latent predicate"]
    hits: Float[Tensor, "latent predicate"]
    active: Float[Tensor, "latent predicate"]
    positives: Float[Tensor, "predicate"]

    @property
    def f1(self) -> Float[Tensor, "latent predicate"]:
        """2 TP / (active + positives), 0 where both are 0."""
        return 2 * self.hits / (self.active + self.positives).clamp(min=1)

    @property
    def precision(self) -> Float[Tensor, "latent predicate"]:
        """TP / active, 0 where never active."""
        return self.hits / self.active.clamp(min=1)


def detectors(
    codes: Float[Tensor, "prompt latent"],
    truth: Bool[Tensor, "prompt predicate"],
    *,
    thresholded: bool,
) -> Detectors:
    """Choose each latent's threshold for each predicate; without `thresholded` it is 0."""
    target = truth.to(codes)
    positives = target.sum(0)
    if not thresholded:
        active = (codes > 0).to(codes)
        hits = active.T @ target
        return Detectors(
            hits.new_zeros(()).expand_as(hits),
            hits,
            active.sum(0)[:, None].expand_as(hits),
            positives,
        )
    ordered = codes.T.sort(-1).values.contiguous()
    at_least = len(codes) - torch.searchsorted(ordered, codes.T.contiguous(), out_int32=True)
    threshold, hits, active = (codes.new_zeros(codes.shape[1], truth.shape[1]) for _ in range(3))
    for columns in _alike(truth.sum(0), numbers=codes.shape[1]):
        found = _best_thresholds(ordered, codes.T, at_least, truth[:, columns])
        threshold[:, columns], hits[:, columns], active[:, columns] = found
    return Detectors(threshold, hits, active, positives)


class _Block(NamedTuple):
    """Latents active on about as many prompts: these in the order of each latent's codes, and after
    which a threshold above 0 can lie."""

    latents: Int[Tensor, "latent"]
    order: Int[Tensor, "active latent"]
    allowed: Bool[Tensor, "active latent"]


class Cuts(NamedTuple):
    """Every threshold of every latent: the prompts on which it is active, largest codes first;
    latents that are rarely active have few."""

    blocks: list[_Block]

    def best_f1(self, holds: Bool[Tensor, "prompt latent"]) -> Float[Tensor, "latent"]:
        """Each latent's F1 for a predicate of its own, at the threshold that is best for it."""
        found = torch.zeros(holds.shape[1], device=holds.device)
        for latents, order, allowed in self.blocks:
            own = holds[:, latents]
            hits = own.gather(0, order).cumsum(0, dtype=torch.float32)
            rank = torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
            found[latents] = torch.where(allowed, 2 * hits / (rank + own.sum(0)), 0.0).max(0).values
        return found


def cuts_through(codes: Float[Tensor, "prompt latent"]) -> Cuts:
    """Every threshold of every latent."""
    active = (codes > 0).sum(0)
    blocks: list[_Block] = []
    for share in range(_HALVINGS + 1):
        most, least = len(codes) >> share, (len(codes) >> (share + 1)) if share < _HALVINGS else 0
        latents = ((active > least) & (active <= most)).nonzero()[:, 0]
        if len(latents):
            ordered, order = codes[:, latents].topk(int(active[latents].max()), dim=0)
            below = torch.cat([ordered[1:], ordered.new_zeros(1, ordered.shape[1])])
            blocks.append(_Block(latents, order, (ordered > 0) & (ordered > below)))
    return Cuts(blocks)


def corrected(f1: Tensor, prevalence: Tensor) -> Tensor:
    """max(0, (F1 - F1_on)/(1 - F1_on)); 0 where the predicate always holds."""
    chance = 2 * prevalence / (1 + prevalence)
    return ((f1 - chance) / (1 - chance).clamp(min=1e-12)).clamp(min=0) * (prevalence < 1)


class _Thresholds(NamedTuple):
    """The best cut through each latent's codes, infinite where no code above 0 hits; its true
    positives and the prompts above it."""

    threshold: Float[Tensor, "latent predicate"]
    hits: Float[Tensor, "latent predicate"]
    active: Float[Tensor, "latent predicate"]


def _alike(positives: Int[Tensor, "predicate"], *, numbers: int) -> Iterator[Int[Tensor, "some"]]:
    """The predicates in groups that hold on about as many prompts, at most twice as many, few
    enough to be handled together."""
    order = positives.argsort(stable=True)
    first = 0
    while first < len(order):
        least = int(positives[order[first]])
        last = int(torch.searchsorted(positives[order], 2 * max(least, 1), right=True))
        step = max(1, PREDICATE_NUMBERS_AT_ONCE // max(1, numbers * 2 * least))
        yield order[first : min(last, first + step)]
        first = min(last, first + step)


def _best_thresholds(
    ordered: Float[Tensor, "latent prompt"],
    codes: Float[Tensor, "latent prompt"],
    at_least: Int[Tensor, "latent prompt"],
    truth: Bool[Tensor, "prompt predicate"],
) -> _Thresholds:
    """The cut, at a code above 0 of a prompt where the predicate holds, that is best for F1:
    halfway to the next lower code.

    Cuts elsewhere only add prompts where it does not hold. Of equal cuts the highest is taken.
    `ordered` are all codes, ascending; `at_least` counts the prompts whose code is as high as a
    prompt's or higher.
    """
    n = ordered.shape[1]
    count = truth.sum(0)
    most = max(1, int(count.max()))
    rows = truth.T.byte().argsort(dim=-1, descending=True, stable=True)[:, :most]
    real = torch.arange(most, device=rows.device) < count[:, None]
    tried, order = codes[:, rows].masked_fill(~real, -1.0).sort(-1)
    active = at_least[:, rows].gather(-1, order)
    hits = most - torch.searchsorted(tried, tried)
    f1 = torch.where(tried > 0, 2 * hits / (active + count[:, None]), -1.0)
    best = (most - 1) - f1.flip(-1).argmax(-1, keepdim=True)
    found = (f1.gather(-1, best) > 0)[..., 0]
    at, above = tried.gather(-1, best)[..., 0], active.gather(-1, best)[..., 0]
    below = ordered.gather(-1, (n - above - 1).clamp(min=0)).clamp(min=0) * (above < n)
    halfway = (at + below) / 2
    cut = torch.where(halfway < at, halfway, below)
    return _Thresholds(
        torch.where(found, cut, torch.inf),
        torch.where(found, hits.gather(-1, best)[..., 0], 0).to(ordered),
        torch.where(found, above, 0).to(ordered),
    )
