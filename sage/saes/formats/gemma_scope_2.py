"""Gemma Scope 2: a config.json and a params.safetensors for each SAE of Gemma 3.

McDougall et al. 2025; resid_post/layer_12_width_16k_l0_medium/{config.json, params.safetensors}.
JumpReLU on raw residuals after a layer, b_dec not subtracted. Like Gemma Scope, they are taken not
to have been trained on BOS, whose norm is many times any other token's.
"""

from __future__ import annotations

import re
from pathlib import Path

from sage.errors import Unsupported
from sage.nodes import Node
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.formats.format import Description
from sage.saes.sae import SAE, Stated
from sage.saes.sae_files import Fields, folder_of, read_json, read_safetensors, unexpected

CONFIG, WEIGHTS = "config.json", "params.safetensors"
TITLE, FILES, LOADER = "Gemma Scope 2", (CONFIG, WEIGHTS), "gemma_3"

_RESIDUAL = re.compile(r"model\.layers\.(\d{1,4})\.output")


def recognises(path: Path) -> bool:
    """Whether there are both files."""
    folder = folder_of(path, FILES)
    return all((folder / name).is_file() for name in FILES)


def describe(path: Path) -> Description:
    """Hook, width and stated sparsity, from the configuration and the header of the weights."""
    folder = folder_of(path, FILES)
    config = read_json(folder / CONFIG)
    return Description(_hook(config, folder), _shape(folder)[1], _stated(config))


def load(path: Path) -> SAE:
    """The SAE in such a folder; Unsupported for one that reads no residual stream."""
    folder = folder_of(path, FILES)
    config = read_json(folder / CONFIG)
    if (kind := config.text("architecture")) != "jump_relu":
        raise Unsupported(f"{folder / CONFIG}: an SAE of architecture '{kind}', not 'jump_relu'.")
    hook = _hook(config, folder)
    d_model, width = _shape(folder)
    arrays = read_safetensors(folder / WEIGHTS)
    encoder = JumpReLU(
        arrays.take("w_enc", [d_model, width]),
        arrays.take("b_enc", [width]),
        arrays.take("threshold", [width]),
    )
    W_dec, b_dec = arrays.take("w_dec", [width, d_model]), arrays.take("b_dec", [d_model])
    arrays.close()
    return SAE(
        id="/".join(folder.parts[-2:]),
        encoder=encoder,
        W_dec=W_dec,
        b_dec=b_dec,
        hook=hook,
        reads_bos=False,
        stated=_stated(config),
        source=str(folder),
    )


def _hook(config: Fields, folder: Path) -> Node:
    """What leaves a layer; Unsupported for any other point of the model."""
    point = config.text("hf_hook_point_in")
    match = _RESIDUAL.fullmatch(point)
    if match is None:
        raise Unsupported(
            f"{folder}: a Gemma Scope 2 SAE of {point}. Only those of the residual stream "
            "(model.layers.N.output) can be judged."
        )
    return Node("resid_post", int(match[1]))


def _shape(folder: Path) -> tuple[int, int]:
    """The sizes d_model and latents, as the encoder has them, without its numbers."""
    from safetensors import SafetensorError, safe_open

    from sage.saes.sae_files import unreadable

    file = folder / WEIGHTS
    try:
        with safe_open(file, framework="pt") as weights:
            shape = weights.get_slice("w_enc").get_shape()
    except (SafetensorError, OSError) as error:
        raise unreadable(file, error, "safetensors with an array w_enc") from error
    if len(shape) != 2 or 0 in shape:
        raise unexpected(file, "w_enc", f"of shape {shape}", "an array [d_model, latents]")
    return int(shape[0]), int(shape[1])


def _stated(config: Fields) -> Stated:
    name = config.text("model_name", "").removeprefix("google/").replace("-v3-", "-3-")
    return Stated(l0=config.stated("l0"), model=name or None)
