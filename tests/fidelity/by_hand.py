"""Fidelity results with a chosen L0 and hit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sage.fidelity.measures import COLUMNS
from sage.fidelity.reconstruction import LatentShare
from sage.fidelity.result import FidelityResult, MeasuredSAE, TextInfo
from sage.result import ModelInfo

SEQUENCES = 6


def measured_sae(
    architecture: str, suite: str, l0: float, hit: float, *, hook: str = "1.resid_pre",
    noise: float = 0.0, seed: int = 0,
) -> MeasuredSAE:  # fmt: skip
    """An SAE that has this L0 and hit on 8 tokens of each sequence: clean loss 1 nat a token, mean
    ablation 2, zero ablation 3, with the SAE 1 + hit. With noise, sequences differ."""
    columns = np.ones((SEQUENCES, len(COLUMNS)))
    strays = np.random.default_rng(seed).normal(size=SEQUENCES) * noise
    told = {
        "scored": 8, "tokens": 8, "cross_entropy": 8, "cross_entropy_sae": 8 * (1 + hit + strays),
        "cross_entropy_mean": 16, "cross_entropy_zero": 24, "active": 8 * l0, "variance": 10,
    }  # fmt: skip
    for name, value in told.items():
        columns[:, COLUMNS.index(name)] = value
    share = LatentShare(0.1, np.array([0.1, 0.2]))
    return MeasuredSAE(suite, f"{suite}/{hook}", hook, architecture, 64, columns, share, share)


def result(
    saes: Sequence[MeasuredSAE], *, model: str = "tiny", d_model: int = 32
) -> FidelityResult:
    """A result of these SAEs."""
    return FidelityResult(
        ModelInfo(model, "revision", "backend", "float32", d_model),
        TextInfo("text.txt", "next tokens", SEQUENCES, 9, "sha"),
        tuple(f"sequence {number}" for number in range(SEQUENCES)),
        tuple(saes),
    )
