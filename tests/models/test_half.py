"""Half precision: weights and streams are bfloat16, what must not be rounded on the way is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sage.dictionaries.projection import offset, project_direction, through_norm
from sage.models.anatomy import normalise
from sage.models.load import load_model
from sage.nodes import parse_node

Folder = Callable[[str], Path]
# Half the distance of 1 to the next number: what rounding to bfloat16 once may change.
HALF_STEP = 2.0**-8


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_norms_in_bfloat16_round_once(folder: Folder, family: str) -> None:
    """A layer norm and an RMS norm far from the origin, where squares summed in bfloat16 would be
    wrong by far more; the literal formula in float64 beside them."""
    model = load_model(str(folder(family)), device="cpu", dtype="bfloat16", backend="nnsight")
    norm = model.anatomy.blocks[0].attention_norm
    generator = torch.Generator().manual_seed(0)
    x = (3 + torch.randn(50, model.anatomy.d_model, generator=generator)).bfloat16()
    exact = x.double() - (x.double().mean(-1, keepdim=True) if norm.kind == "layer" else 0.0)
    scale = (exact.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    expected = norm.weight.double() * exact / scale + norm.bias.double()
    error = (normalise(norm, x).double() - expected).abs()
    assert bool((error <= HALF_STEP * expected.abs() + 1e-4).all())


@pytest.mark.parametrize("node", ["1.1.q@END", "1.1.z@END", "1.mlp_in@END"])
def test_latents_are_projected_in_float32_through_the_weights_of_a_bfloat16_model(
    folder: Folder, node: str
) -> None:
    """As through the same weights in a model of float64: nothing on the way is rounded."""
    model = load_model(str(folder("gpt2")), device="cpu", dtype="bfloat16", backend="nnsight")
    at, anatomy = parse_node(node), model.anatomy
    vectors = torch.randn(7, anatomy.d_model, generator=torch.Generator().manual_seed(1))
    projected = project_direction(anatomy, at, vectors)
    assert projected.dtype == offset(anatomy, at).dtype == torch.float32
    norm = anatomy.norm_before(at)
    assert through_norm(norm, vectors).dtype == torch.float32
    centred = vectors.double() - vectors.double().mean(-1, keepdim=True)
    normed = norm.weight.double() * centred
    if at.head is not None:
        kind = "v" if at.kind == "z" else at.kind
        normed = normed @ anatomy.projection(kind, at.layer, at.head)[0].double().T
    assert torch.allclose(projected.double(), normed, rtol=1e-5, atol=1e-5)
