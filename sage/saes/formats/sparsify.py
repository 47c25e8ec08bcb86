"""Sparsify: cfg.json and sae.safetensors in a folder named for the module whose output the SAE
reads.

https://github.com/EleutherAI/sparsify; `layers.3` (Pythia, Llama) or `h.3` (GPT-2) is the residual
stream after layer 3. TopK; the encoder subtracts b_dec from its input, and the decoder is stored
one latent per row.
"""

from __future__ import annotations

import re
from pathlib import Path

from sage.errors import BadFile, SageError, Unsupported
from sage.nodes import Node
from sage.saes.architectures.topk import TopK
from sage.saes.formats.reading import (
    Described,
    Fields,
    bad,
    folder_of,
    read_json,
    read_safetensors,
    write_json,
    write_safetensors,
)
from sage.saes.sae import SAE, Normalisation, Stated, scale_codes

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"

_MODULE = re.compile(r"(?:.*\.)?(?:layers|h)\.(\d{1,4})(?:\.(mlp|attn|attention|self_attn))?")


def recognises(path: Path) -> bool:
    """Whether there is a sae.safetensors."""
    return (folder_of(path, [CONFIG, WEIGHTS]) / WEIGHTS).is_file()


def describe(path: Path) -> Described:
    """Hook, width and k, from the configuration and the folder's name."""
    folder = folder_of(path, [CONFIG, WEIGHTS])
    config = read_json(folder / CONFIG)
    return Described(_hook(folder), _width(config), Stated(l0=float(config.whole("k", 32))))


def load(path: Path) -> SAE:
    """The SAE in a sparsify folder."""
    folder = folder_of(path, [CONFIG, WEIGHTS])
    config = read_json(folder / CONFIG)
    _refuse_what_is_no_topk_sae(config)
    hook, width, d_model = _hook(folder), _width(config), config.whole("d_in")
    k = config.whole("k", 32)
    if k > width:
        raise bad(config.file, "k", k, f"at most the {width} latents")
    arrays = read_safetensors(folder / WEIGHTS)
    encoder = arrays.take("encoder.weight", [width, d_model])
    b_enc, W_dec, b_dec = (
        arrays.take("encoder.bias", [width]),
        arrays.take("W_dec", [width, d_model]),
        arrays.take("b_dec", [d_model]),
    )
    arrays.close()
    return SAE(
        id=folder.name,
        architecture=TopK(encoder.T.contiguous(), b_enc, b_enc.new_ones(width), k),
        W_dec=W_dec,
        b_dec=b_dec,
        hook=hook,
        subtract_b_dec=True,
        reads_bos=False,
        stated=Stated(l0=float(k)),
        source=str(folder),
    )


def save(sae: SAE, path: Path) -> None:
    """Write cfg.json and sae.safetensors into `path`, a folder named layers.N for the layer whose
    output is read."""
    plain = (
        sae.normalisation == Normalisation()
        and not (sae.centred or sae.reads_bos)
        and sae.subtract_b_dec
    )
    if not isinstance(sae.architecture, TopK) or not plain:
        raise Unsupported(
            f"SAE '{sae.id}' ({sae.architecture.name}) cannot be a sparsify folder: these are TopK on raw activations, b_dec subtracted, "
            "no BOS. Save it in SAELens format."
        )
    if (named := _hook(path)) != sae.hook:
        raise SageError(
            f"The folder {path} says {named}, but SAE '{sae.id}' reads {sae.hook}. Name it layers.{sae.hook.layer}."
        )
    sae = scale_codes(sae, sae.architecture.priority)
    encoder = sae.architecture
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
    latents = config.whole("num_latents", 0, least=0)
    return latents or config.whole("d_in") * config.whole("expansion_factor", 32)


def _refuse_what_is_no_topk_sae(config: Fields) -> None:
    for name in ("transcode", "skip_connection", "signed", "embed_skip", "gram_lookup"):
        if config.flag(name, False):
            raise Unsupported(
                f"{config.file}: {name} is set. Only TopK autoencoders, which reconstruct what they read, can be judged."
            )
    if (activation := config.text("activation", "topk")) != "topk":
        raise Unsupported(f"{config.file}: activation is '{activation}'. Only 'topk' can be read.")


def _hook(folder: Path) -> Node:
    found = _MODULE.fullmatch(folder.resolve().name)
    if found is None:
        raise BadFile(
            f"{folder}: the folder's name says no layer; expected the module it reads, such as layers.3 or h.3."
        )
    kind = {None: "resid_post", "mlp": "mlp_out"}.get(found[2], "attn_out")
    return Node(kind, int(found[1]))
