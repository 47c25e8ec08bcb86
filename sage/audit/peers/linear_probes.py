"""Dense linear probes, many at once, and their logits when latents are taken out.

The probes of TPP and SCR (Karvonen et al. 2025, arXiv 2503.09532; Marks et al. 2024,
arXiv 2403.19647): logistic regression by AdamW on batches of 16. The epoch with the least loss on
*train* is kept; the published package keeps the one with the best accuracy on test.

With an affine decoder what is left of an activation without some latents is x - sum f_i d_i, so a
probe's logit is w . x + b - sum f_i (d_i . w), exactly, and no SAE runs again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

EPOCHS, BATCH, RATE, WEIGHT_DECAY = 20, 16, 1e-3, 0.01
L1_PENALTY = 1e-3


class Probes(NamedTuple):
    """One direction and one intercept for each class."""

    weights: Float[Tensor, "probe d"]
    intercepts: Float[Tensor, "probe"]

    def logits(self, x: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt probe"]:
        """w . x + b."""
        return x @ self.weights.T + self.intercepts

    def without(
        self,
        logits: Float[Tensor, "prompt probe"],
        codes: Float[Tensor, "prompt latent"],
        directions: Float[Tensor, "latent d"],
        ablated: Int[Tensor, "some"],
    ) -> Float[Tensor, "prompt probe"]:
        """The logits when these latents are set to 0 and the reconstruction's error is kept."""
        return logits - codes[:, ablated] @ (directions[ablated] @ self.weights.T)


class Rows(NamedTuple):
    """The prompts each probe is about, as many positive as negative, and which are positive."""

    prompts: Int[Tensor, "probe row"]
    positive: Bool[Tensor, "row"]


def balanced(classes: Int[Tensor, "prompt"], count: int, *, random: torch.Generator) -> Rows:
    """For each class as many of its prompts as every class has, and as many of others; drawn once,
    so that all that is measured on them is measured on the same."""
    shuffled = torch.randperm(len(classes), generator=random)
    members = [shuffled[classes[shuffled] == number] for number in range(count)]
    others = [shuffled[classes[shuffled] != number] for number in range(count)]
    size = min(min(map(len, members)), min(map(len, others)))
    rows = [torch.cat([on[:size], off[:size]]) for on, off in zip(members, others, strict=True)]
    return Rows(torch.stack(rows), torch.arange(2 * size) < size)


def train_probes(
    x: Float[Tensor, "prompt d"], rows: Rows, *, random: torch.Generator, epochs: int = EPOCHS
) -> Probes:
    """Every probe on its rows; all see their rows in the same order."""
    inputs, target = x[rows.prompts], rows.positive.float().expand(len(rows.prompts), -1)
    bound = x.shape[1] ** -0.5
    weights = bound * (2 * torch.rand(len(inputs), x.shape[1], generator=random) - 1)
    intercepts = torch.zeros(len(inputs))
    weights.requires_grad_()
    intercepts.requires_grad_()
    optimiser = torch.optim.AdamW([weights, intercepts], lr=RATE, weight_decay=WEIGHT_DECAY)
    least, kept = torch.full((len(inputs),), torch.inf), (weights.detach(), intercepts.detach())
    for _ in range(epochs):
        order = torch.randperm(inputs.shape[1], generator=random)
        for batch in order.split(BATCH):
            logits = _logits(inputs[:, batch], weights, intercepts)
            loss = binary_cross_entropy_with_logits(logits, target[:, batch], reduction="none")
            total = loss.mean(1).sum() + L1_PENALTY * weights.abs().sum()
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
        with torch.no_grad():
            logits = _logits(inputs, weights, intercepts)
            losses = binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
            better = losses < least
            least = torch.where(better, losses, least)
            kept = (
                torch.where(better[:, None], weights.detach(), kept[0]),
                torch.where(better, intercepts.detach(), kept[1]),
            )
    return Probes(*kept)


def _logits(inputs: Tensor, weights: Tensor, intercepts: Tensor) -> Tensor:
    return (inputs @ weights[..., None])[..., 0] + intercepts[:, None]


def largest(effects: Float[Tensor, "latent"], count: int) -> Int[Tensor, "some"]:
    """The latents with the largest effects, fewer where fewer have any."""
    some = min(count, int((effects != 0).sum()))
    return effects.topk(some).indices
