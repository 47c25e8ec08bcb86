"""Least squares on one-hot designs: what each value of each attribute adds, on its own.

Method, section 3. The design is rank-deficient (every block of columns sums to one), so that only
its singular part may be used: a full-rank solver returns garbage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

How = Literal["least squares", "weighted", "mean"]
HOWS: tuple[How, ...] = ("least squares", "weighted", "mean")

_RTOL = 1e-10


@dataclass(frozen=True)
class Solver:
    """One design on some prompts, ready to be fitted to anything measured on them, in float64.

    `features[prompt, block]` says which feature each prompt has in each block of columns, `sizes`
    how many features each block has. Every block's features have mean zero over the prompts; a
    feature that none of them has is zero.
    """

    features: Int[Tensor, "prompt block"]
    sizes: tuple[int, ...]
    how: How

    @cached_property
    def gram(self) -> Float[Tensor, "feature feature"]:
        """C'C: how many prompts have both features."""
        size = sum(self.sizes)
        pairs = self.features[:, :, None] * size + self.features[:, None, :]
        counts = torch.bincount(pairs.flatten(), minlength=size * size)
        return rearrange(counts, "(row column) -> row column", row=size).double()

    @cached_property
    def inverse(self) -> Float[Tensor, "feature feature"]:
        """pinv(C'C), so that pinv(C) = inverse C'."""
        return torch.linalg.pinv(self.gram, hermitian=True, rtol=_RTOL)

    @cached_property
    def rank(self) -> int:
        """The number of independent columns, the constant among them."""
        return int(torch.linalg.matrix_rank(self.gram, hermitian=True, rtol=_RTOL))

    @property
    def counts(self) -> Float[Tensor, "feature"]:
        """How many prompts have each feature."""
        return self.gram.diagonal()

    def __call__(self, centred: Float[Tensor, "prompt d"]) -> Float[Tensor, "feature d"]:
        """Features, weights included, of values about their mean."""
        sums = self.sums(centred)
        if self.how == "least squares":
            return self.solve(sums, prompts=len(centred))
        means = sums / self.counts[:, None].clamp(min=1)
        return means if self.how == "mean" else means * self._weights(means, sums)

    def solve(
        self, sums: Float[Tensor, "feature many"], *, prompts: int
    ) -> Float[Tensor, "feature many"]:
        """The least-squares features of values about their mean whose sums C'A these are."""
        counts = self.counts[:, None]
        solution = self.inverse @ sums
        block_means = self._by_block(solution * counts).sum(1) / max(prompts, 1)
        gauged = solution - block_means.repeat_interleave(torch.tensor(self.sizes), 0)
        return gauged * (counts > 0)

    def sums(self, values: Float[Tensor, "prompt d"]) -> Float[Tensor, "feature d"]:
        """C'A: the sum over the prompts that have each feature, one after another in memory."""
        sums = np.zeros((sum(self.sizes), values.shape[1]))
        for order, first, feature in self._prompts_by_feature:
            sums[feature] = np.add.reduceat(values.numpy()[order], first, axis=0)
        return torch.from_numpy(sums)

    @cached_property
    def _prompts_by_feature(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each block the prompts sorted by feature, where each feature's begin, and which
        features those are."""
        runs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for block in self.features.T.numpy():
            order = np.argsort(block, kind="stable")
            first = np.flatnonzero(np.diff(block[order], prepend=-1))
            runs.append((order, first, block[order][first]))
        return runs

    def _weights(
        self, means: Float[Tensor, "feature d"], sums: Float[Tensor, "feature d"]
    ) -> Float[Tensor, "feature 1"]:
        """One weight per block: G w = h with G_ij = E<u_i, u_j> and h_i = E<u_i, a - a_bar>."""
        overlap = self.gram * (means @ means.T)
        gram = self._by_block(self._by_block(overlap).sum(1).T).sum(1)
        aims = self._by_block((means * sums).sum(-1, keepdim=True)).sum((1, 2))
        weights = torch.linalg.pinv(gram, hermitian=True, rtol=_RTOL) @ aims
        return weights.repeat_interleave(torch.tensor(self.sizes))[:, None]

    def _by_block(self, rows: Float[Tensor, "feature many"]) -> Float[Tensor, "block most many"]:
        """The features of each block side by side, shorter blocks filled up with zeros."""
        blocks = list(rows.split(list(self.sizes)))
        return torch.nn.utils.rnn.pad_sequence(blocks, batch_first=True)
