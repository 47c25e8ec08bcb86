"""The wired model's own features as SAEs: a suite whose every score is known to be 1."""

from __future__ import annotations

from pathlib import Path

import torch

from sage.models.wired import truth
from sage.nodes import Node
from sage.saes.architectures.relu import ReLU
from sage.saes.formats import saelens
from sage.saes.sae import SAE, Stated, hook_label
from sage.saes.suite import Suite, assemble


def planted_suite(hooks: tuple[Node, ...], *, seed: int = 0) -> Suite:
    """One latent for each feature that the wired model of that seed can hold at a hook."""
    return assemble("planted", [_planted_sae(hook, seed) for hook in hooks])


def save_planted(hooks: tuple[Node, ...], folder: Path, *, seed: int = 0) -> list[Path]:
    """Write the planted suite in SAELens format, one folder for each hook."""
    paths: list[Path] = []
    for hook, sae in planted_suite(hooks, seed=seed).saes.items():
        paths.append(folder / hook_label(hook))
        saelens.save(sae, paths[-1])
    return paths


def _planted_sae(hook: Node, seed: int) -> SAE:
    arrays = truth(seed).planted_sae(hook)
    W_enc, b_enc, W_dec, b_dec = (
        torch.from_numpy(array)
        for array in (arrays.W_enc, arrays.b_enc, arrays.W_dec, arrays.b_dec)
    )
    return SAE(
        f"planted {hook_label(hook)}",
        ReLU(W_enc, b_enc),
        W_dec,
        b_dec,
        hook,
        stated=Stated(model="wired"),
    )
