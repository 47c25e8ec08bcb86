"""Sparsify: cfg.json and sae.safetensors in a folder named for the module the SAE reads.

https://github.com/EleutherAI/sparsify; `layers.3` (Pythia, Llama) or `h.3` (GPT-2) puts out the
residual stream after layer 3. TopK; the encoder subtracts b_dec from its input, and the decoder is
stored one latent per row.
"""

from __future__ import annotations

import re
from pathlib import Path

from sage.errors import BadFile, SageError, Unsupported
from sage.files import write_json
from sage.nodes import Node
from sage.saes.architectures.topk import TopK, topk_by_trained_codes
from sage.saes.formats.format import Description
from sage.saes.sae import SAE, Normalisation, Stated
from sage.saes.sae_files import (
    Fields,
    folder_of,
    read_json,
    read_safetensors,
    unexpected,
    write_safetensors,
)

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
TITLE, FILES, LOADER = "sparsify", (CONFIG, WEIGHTS), "sparsify"

_MODULE = re.compile(r"(?:.*\.)?(?:layers|h)\.(\d{1,4})(?:\.(mlp|attn|attention|self_attn))?")


def recognises(path: Path) -> bool:
    """Whether there is a sae.safetensors."""
    return (folder_of(path, FILES) / WEIGHTS).is_file()


def describe(path: Path) -> Description:
    """Hook, width and k, from the configuration and the folder's name."""
    folder = folder_of(path, FILES)
    config = read_json(folder / CONFIG)
    return Description(_hook(folder), _width(config), Stated(l0=float(config.integer("k", 32))))


def load(path: Path) -> SAE:
    """The SAE in a sparsify folder."""
    folder = folder_of(path, FILES)
    config = read_json(folder / CONFIG)
    _refuse_what_is_no_topk_sae(config)
    hook, width, d_model = _hook(folder), _width(config), config.integer("d_in")
    k = config.integer("k", 32)
    if k > width:
        raise unexpected(config.file, "k", k, f"at most the {width} latents")
    arrays = read_safetensors(folder / WEIGHTS)
    encoder = arrays.take("encoder.weight", [width, d_model])
    b_enc = arrays.take("encoder.bias", [width])
    W_dec, b_dec = arrays.take("W_dec", [width, d_model]), arrays.take("b_dec", [d_model])
    arrays.close()
    return SAE(
        id=folder.name,
        encoder=TopK(encoder.T.contiguous(), b_enc, b_enc.new_ones(width), k),
        W_dec=W_dec,
        b_dec=b_dec,
        hook=hook,
        subtract_b_dec=True,
        reads_bos=False,
        stated=Stated(l0=float(k)),
        source=str(folder),
    )


def save(sae: SAE, path: Path) -> None:
    """Write cfg.json and sae.safetensors into `path`, a folder such as layers.3.

    Its name says the layer whose output is read, which must be that of the SAE.
    """
    raw = sae.normalisation == Normalisation() and not sae.centred
    if not isinstance(sae.encoder, TopK) or not raw or sae.reads_bos or not sae.subtract_b_dec:
        raise Unsupported(
            f"SAE '{sae.id}' ({sae.encoder.name}) cannot be a sparsify folder: these are TopK on "
            "raw activations, b_dec subtracted, no BOS. Save it in SAELens format."
        )
    if (named := _hook(path)) != sae.hook:
        raise SageError(
            f"The folder {path} says {named}, but SAE '{sae.id}' reads {sae.hook}. "
            f"Name it layers.{sae.hook.layer}."
        )
    sae = topk_by_trained_codes(sae)
    encoder = sae.encoder
    assert isinstance(encoder, TopK)
    arrays = {
        "encoder.weight": encoder.W_enc.T,
        "encoder.bias": encoder.b_enc,
        "W_dec": sae.W_dec,
        "b_dec": sae.b_dec,
    }
    config = {
        "activation": "topk",
        "expansion_factor": max(1, sae.width // sae.d_model),
        "normalize_decoder": False,
        "num_latents": sae.width,
        "k": encoder.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.d_model,
    }
    write_safetensors(path / WEIGHTS, arrays)
    write_json(path / CONFIG, config)


def _width(config: Fields) -> int:
    latents = config.integer("num_latents", 0, least=0)
    if latents:
        return latents
    stated = config.states("expansion_factor")
    return config.times("d_in", "expansion_factor") if stated else 32 * config.integer("d_in")


def _refuse_what_is_no_topk_sae(config: Fields) -> None:
    for name in ("transcode", "skip_connection", "signed", "embed_skip", "gram_lookup"):
        if config.flag(name, False):
            raise Unsupported(
                f"{config.file}: {name} is set. "
                "Only TopK autoencoders, which reconstruct what they read, can be judged."
            )
    if (activation := config.text("activation", "topk")) != "topk":
        raise Unsupported(f"{config.file}: activation is '{activation}'. Only 'topk' can be read.")


def _hook(folder: Path) -> Node:
    module = _MODULE.fullmatch(folder.resolve().name)
    if module is None:
        raise BadFile(
            f"{folder}: the folder's name says no layer; "
            "expected the module it reads, such as layers.3 or h.3."
        )
    kind = {None: "resid_post", "mlp": "mlp_out"}.get(module[2], "attn_out")
    return Node(kind, int(module[1]))
