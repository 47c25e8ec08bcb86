"""k-sparse probing, as `sae-probes` does it: how well can k latents be read for a value?

Kantamneni et al. 2025, arXiv 2502.16681; method, section 7. Latents, divided by their mean nonzero
size, are ranked by the difference of class means on train; the best k go, as they are, into an L1
logistic regression whose C, of ten between 1e5 and 1e-5, has the best AUC on the last part of
train, and which is then fitted to all of train. One value against the others, mean over values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.audit.peers.arrays import LabelledNode, NodeCodes
from sage.audit.peers.logistic import fit_logistic

NAME, VERSION = "k-sparse probing", 1
KS = (1, 2, 5, 10, 16)
STRENGTHS = tuple(10.0 ** (5 - 10 * step / 9) for step in range(10))
# Of train: the share, and the most prompts, on which C is chosen.
HELD_OUT, MOST_HELD_OUT = 0.2, 100
ROUNDING = 1e-6


def probing(
    given: LabelledNode, codes: NodeCodes, *, ks: Sequence[int] = KS, most: int | None = None
) -> dict[int, float]:
    """k -> the mean over values of the area under the ROC curve on test; trained on at most so many
    prompts."""
    train = codes.train[:most]
    held, tested = given.is_value("train")[:, :most], given.is_value("test")
    order = rank_latents(train, held)
    return {
        k: float(probe_auc(train, held, codes.test, tested, order[:, :k]).mean())
        for k in ks
        if k <= train.shape[1]
    }


def rank_latents(
    codes: Float[Tensor, "prompt latent"], positive: Bool[Tensor, "value prompt"]
) -> Int[Tensor, "value latent"]:
    """Latents by the size of the difference of their class means, the largest first."""
    size = codes.abs().sum(0) / ((codes != 0).sum(0) + ROUNDING)
    normalised = codes / (size + ROUNDING)
    on, off = positive.float(), (~positive).float()
    difference = on @ normalised / on.sum(1, keepdim=True)
    difference -= off @ normalised / off.sum(1, keepdim=True)
    return difference.abs().argsort(dim=-1, descending=True, stable=True)


def probe_auc(
    train: Float[Tensor, "train latent"],
    is_train: Bool[Tensor, "value train"],
    test: Float[Tensor, "test latent"],
    is_test: Bool[Tensor, "value test"],
    chosen: Int[Tensor, "value k"],
) -> Float[Tensor, "value"]:
    """The area under the ROC curve of each value's probe of its chosen latents."""
    inputs = train.T[chosen].mT
    kept = len(train) - min(int(HELD_OUT * len(train)), MOST_HELD_OUT)
    every = torch.tensor(STRENGTHS, dtype=torch.float64).expand(len(chosen), -1)
    tried = fit_logistic(inputs[:, :kept], is_train[:, :kept].float(), every)
    shown = tried.logits(inputs[:, kept:])
    auc = area(shown, is_train[:, None, kept:].expand(shown.shape))
    best = every.gather(1, auc.argmax(-1, keepdim=True))
    probe = fit_logistic(inputs, is_train.float(), best)
    logits = probe.logits(test.T[chosen].mT)[:, 0]
    return area(logits, is_test)


def area(
    scores: Float[Tensor, "*problem prompt"], positive: Bool[Tensor, "*problem prompt"]
) -> Float[Tensor, "*problem"]:
    """The area under the ROC curve, ties counting half (Mann and Whitney); 1/2 where one class is
    empty."""
    ordered, order = scores.sort(-1)
    first = torch.searchsorted(ordered.contiguous(), ordered.contiguous(), right=False)
    last = torch.searchsorted(ordered.contiguous(), ordered.contiguous(), right=True)
    rank = (first + last + 1).double() / 2
    hit = positive.gather(-1, order).double()
    on = hit.sum(-1)
    off = hit.shape[-1] - on
    above = (rank * hit).sum(-1) - on * (on + 1) / 2
    return torch.where((on > 0) & (off > 0), above / (on * off).clamp(min=1), 0.5)
