"""Dominated SAEs: another one is as sparse and performs as well, and is better in one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dominated(l0: Sequence[float | int], hit: Sequence[float]) -> list[bool]:
    """Whether another SAE has no more active latents and no larger hit, and less of either."""
    sparsity, hits = np.asarray(l0, float), np.asarray(hit, float)
    no_worse = (sparsity[:, None] <= sparsity) & (hits[:, None] <= hits)
    better = (sparsity[:, None] < sparsity) | (hits[:, None] < hits)
    worse = no_worse & better
    return [bool(worse[:, place].any()) for place in range(len(hits))]
