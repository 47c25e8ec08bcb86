"""Gemma Scope 2 files, written by hand as the release has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sage.errors import BadFile, Unsupported
from sage.nodes import Node
from sage.saes.formats import describe_file, gemma_scope_2, load_file

D, WIDTH = 3, 5
CONFIG = {
    "architecture": "jump_relu",
    "model_name": "gemma-v3-270m-pt",
    "hf_hook_point_in": "model.layers.12.output",
    "hf_hook_point_out": "model.layers.12.output",
    "width": WIDTH,
    "l0": 60,
    "affine_connection": False,
}


def written(folder: Path, **changed: object) -> Path:
    generator = torch.Generator().manual_seed(0)
    shapes = {"w_enc": (D, WIDTH), "w_dec": (WIDTH, D), "b_enc": (WIDTH,), "b_dec": (D,),
              "threshold": (WIDTH,)}  # fmt: skip
    arrays = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    arrays["threshold"] = arrays["threshold"].abs()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changed}))
    save_file(arrays, folder / "params.safetensors")
    return folder


def test_codes_jump_at_the_threshold_and_b_dec_is_added_but_not_subtracted(tmp_path: Path) -> None:
    folder = written(tmp_path / "resid_post" / "layer_12_width_5_l0_medium")
    sae = load_file(folder)
    arrays = gemma_scope_2.read_safetensors(folder / "params.safetensors").values
    x = torch.randn(4, D, generator=torch.Generator().manual_seed(1)) * 3
    before = x @ arrays["w_enc"] + arrays["b_enc"]
    codes = torch.where(before > arrays["threshold"], before, 0.0)
    torch.testing.assert_close(sae.encode(x), codes)
    torch.testing.assert_close(sae.reconstruct(x), codes @ arrays["w_dec"] + arrays["b_dec"])
    assert 0 < codes.count_nonzero() < codes.numel()
    assert (sae.hook, sae.site) == (Node("resid_post", 12), Node("resid_pre", 13))
    assert (sae.stated.l0, sae.stated.model) == (60.0, "gemma-3-270m-pt")
    assert sae.passes_first(bos=True)
    assert describe_file(folder) == (sae.hook, WIDTH, sae.stated)


@pytest.mark.parametrize("point", ["model.layers.12.mlp.output", "model.layers.12.self_attn"])
def test_what_reads_no_residual_stream_is_refused(tmp_path: Path, point: str) -> None:
    with pytest.raises(Unsupported, match=r"Only those of the residual stream"):
        load_file(written(tmp_path / "sae", hf_hook_point_in=point))


def test_another_architecture_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="architecture 'topk'"):
        load_file(written(tmp_path / "topk", architecture="topk"))
    folder = written(tmp_path / "short")
    weights = folder / "params.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(BadFile, match=r"params\.safetensors"):
        load_file(folder)
