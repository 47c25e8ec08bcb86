"""Dictionaries of given codes, and the literal F1 that detectors are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from linear import MLP, Claimed, Z, activations, claimed
from sage.dictionaries.activations import Activations
from sage.nodes import Node

Labels = Sequence[Mapping[str, object]]


def one_node(labels: Labels, codes: torch.Tensor, **fields: object) -> tuple[Activations, Claimed]:
    """A node that holds nothing, and a dictionary with these codes there."""
    given = activations(labels, mlp=torch.zeros(len(labels), 8))  # type: ignore[arg-type]
    vectors = torch.ones(codes.shape[1], 8)
    return given, claimed(given, {MLP: codes.float()}, {MLP: vectors}, **fields)


def random_case(seed: int) -> tuple[Activations, Claimed]:
    """Two nodes, two attributes, 12 latents: some mean a value more or less, one is always on, one
    dead, one is on two values, one on a pair."""
    generator = np.random.default_rng(seed)
    a, b = generator.integers(4, size=200), generator.integers(3, size=200)
    labels = [{"a": int(x), "b": "xyz"[y]} for x, y in zip(a, b, strict=True)]
    codes: dict[Node, torch.Tensor] = {}
    for node in (MLP, Z):
        own = np.abs(generator.normal(size=(200, 12))) * (generator.random((200, 12)) < 0.4)
        for latent in range(6):
            holds = a == latent if latent < 4 else b == latent - 4
            own[:, latent] = (own[:, latent] * 0.5 + 2 * holds) * (generator.random(200) < 0.95)
        own[:, 6], own[:, 7] = 1, 0
        own[:, 8] = np.isin(a, (1, 2)) + 0.1 * own[:, 8]
        own[:, 9] = (a == 1) & (b == 0)
        codes[node] = torch.from_numpy(own).float()
    given = activations(labels, mlp=torch.zeros(200, 8), z=torch.zeros(200, 4))
    vectors = {MLP: torch.zeros(12, 8), Z: torch.zeros(12, 4)}
    return given, claimed(given, codes, vectors)


def corrected_f1(hit: float, active: float, positive: float, n: float) -> float:
    """max(0, (F1 - F1_on)/(1 - F1_on))."""
    if not positive < n:
        return 0.0
    p = positive / n
    on = 2 * p / (1 + p)
    return max(0.0, (2 * hit / max(active + positive, 1) - on) / (1 - on))


def correct(f1: float, prevalence: float) -> float:
    on = 2 * prevalence / (1 + prevalence)
    return max(0.0, (f1 - on) / (1 - on))


def count(fires: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Hits, prompts on which it fires, and where it holds."""
    return int((fires & truth).sum()), int(fires.sum()), int(truth.sum())


def best_cut(codes: np.ndarray, truth: np.ndarray, *, thresholded: bool) -> tuple[float, float]:
    """The highest cut that is best for F1, and the F1."""
    cuts = sorted({0.0, *(codes[codes > 0] if thresholded else ())})
    scores = []
    for cut in cuts:
        hit, active, positive = count(codes > cut, truth)
        scores.append((2 * hit / (active + positive), cut))
    f1, cut = max(scores)
    return cut, f1
