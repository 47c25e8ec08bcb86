"""SAELens: cfg.json and sae_weights.safetensors, of any version.

https://github.com/decoderesearch/SAELens. Before version 6 the configuration is flat and says
`hook_point`, `activation_fn_str`, `normalize_activations` as a flag; since then what concerns the
model is in `metadata`. A BatchTopK or Matryoshka SAE is stored as the JumpReLU it is at inference,
with `training_architecture` saying what it was; we store a ProLU in the same way, so that SAELens
reads it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from sage.errors import Unsupported
from sage.nodes import Node
from sage.saes.architectures.batchtopk import BatchTopK
from sage.saes.architectures.gated import Gated
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.architectures.matryoshka import Matryoshka
from sage.saes.architectures.prolu import ProLU
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.saes.formats.reading import (
    Arrays,
    Described,
    Fields,
    bad,
    finite,
    folder_of,
    read_json,
    read_safetensors,
    write_json,
    write_safetensors,
)
from sage.saes.sae import (
    SAE,
    Architecture,
    Normalisation,
    NormalisationKind,
    Stated,
    fold_decoder_norms,
    fold_factor,
    rewritten,
    scale_codes,
)

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"

_FORMAT = "6.0.0"
_HOOK = re.compile(r"blocks\.(\d{1,4})\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)")
_NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
_ARCHITECTURES = ("standard", "gated", "jumprelu", "topk", "batchtopk", "matryoshka_batchtopk")


def recognises(path: Path) -> bool:
    """Whether there is a sae_weights.safetensors."""
    return (folder_of(path, [CONFIG, WEIGHTS]) / WEIGHTS).is_file()


def describe(path: Path) -> Described:
    """Hook, width and stated quality, from the configuration."""
    config = read_json(folder_of(path, [CONFIG, WEIGHTS]) / CONFIG)
    return Described(hook_of(_about(config)), _width(config), _stated(config))


def load(path: Path, *, overrides: dict[str, object] | None = None) -> SAE:
    """The SAE in a SAELens folder; `overrides` replace fields of its configuration, as a release's
    registry may do."""
    folder = folder_of(path, [CONFIG, WEIGHTS])
    config = read_json(folder / CONFIG)
    values = {**_scaler(folder), **config.values, **(overrides or {})}
    if "metadata" in values:
        values["metadata"] = {**config.child("metadata").values, **(overrides or {})}
    config = Fields(config.file, values)
    return read(config, read_safetensors(folder / WEIGHTS), name=folder.name)


def read(config: Fields, arrays: Arrays, *, name: str) -> SAE:
    """The SAE that a configuration and its arrays describe."""
    about = _about(config)
    hook, d_model, width = hook_of(about), config.whole("d_in"), _width(config)
    heads = (about.values.get(name) for name in ("hook_head_index", "hook_point_head_index"))
    if (
        any(head is not None for head in heads)
        or config.text("reshape_activations", "none") != "none"
    ):
        raise Unsupported(
            f"{config.file}: an SAE of attention heads. Only SAEs of the residual stream can be judged."
        )
    encoder = _encoder(config, arrays, d_model, width)
    W_dec, b_dec = arrays.take("W_dec", [width, d_model]), arrays.take("b_dec", [d_model])
    if "scaling_factor" in arrays.values:  # old SAEs may scale their codes before decoding
        W_dec = finite(
            W_dec * arrays.take("scaling_factor", [width])[:, None],
            arrays.file,
            "W_dec times scaling_factor",
        )
    arrays.close()
    kwargs = about.child("model_from_pretrained_kwargs")
    sae = SAE(
        id=name,
        architecture=encoder,
        W_dec=W_dec,
        b_dec=b_dec,
        hook=hook,
        normalisation=_normalisation(config),
        centred=kwargs.flag("center_writing_weights", False),
        subtract_b_dec=config.flag("apply_b_dec_to_input", True),
        reads_bos=_reads_bos(about),
        stated=_stated(config),
        source=str(config.file.parent),
    )
    if config.flag("rescale_acts_by_decoder_norm", False):
        sae = _chosen_by_decoder_norm(sae, arrays.file)
    return sae


def save(sae: SAE, path: Path) -> None:
    """Write cfg.json and sae_weights.safetensors into the folder `path`, as SAELens 6 does; what
    SAELens lacks is folded in."""
    sae = fold_factor(sae)
    if isinstance(sae.architecture, TopK) and (sae.architecture.priority != 1).any():
        sae = scale_codes(sae, sae.architecture.priority)
    name, settings, arrays, was = _written(sae.architecture)
    metadata: dict[str, object] = {
        "sae_lens_version": _FORMAT,
        "model_name": sae.stated.model,
        "hook_name": hook_name(sae.hook),
        "hook_head_index": None,
        "prepend_bos": sae.reads_bos,
        "model_from_pretrained_kwargs": {"center_writing_weights": True} if sae.centred else {},
        "l0": sae.stated.l0,
        "fvu": sae.stated.fvu,
        **was,
    }
    config: dict[str, object] = {
        "architecture": name,
        "d_in": sae.d_model,
        "d_sae": sae.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_b_dec,
        "normalize_activations": sae.normalisation.kind,
        "reshape_activations": "none",
        **settings,
        "metadata": metadata,
    }
    write_safetensors(path / WEIGHTS, {**arrays, "W_dec": sae.W_dec, "b_dec": sae.b_dec})
    write_json(path / CONFIG, config)


def hook_of(about: Fields) -> Node:
    """The node that a configuration's hook name means."""
    name = about.text(
        "hook_point"
        if about.values.get("hook_name") is None and "hook_point" in about.values
        else "hook_name"
    )
    if name == "hook_embed":
        return Node("embed", -1)
    if found := _HOOK.fullmatch(name):
        return Node(found[2], int(found[1]))
    if re.fullmatch(r"(blocks\.\d+\.)?[a-z0-9_.]*hook_[a-z_]+", name):
        raise Unsupported(
            f"{about.file}: the SAE reads '{name}'. Only SAEs of the residual stream (blocks.N.hook_resid_...) can be judged."
        )
    raise bad(
        about.file, about.prefix + "hook_name", name, "a hook such as blocks.8.hook_resid_pre"
    )


def hook_name(hook: Node) -> str:
    """The name SAELens gives a node."""
    return "hook_embed" if hook.kind == "embed" else f"blocks.{hook.layer}.hook_{hook.kind}"


def _about(config: Fields) -> Fields:
    return config.child("metadata") if "metadata" in config.values else config


def _width(config: Fields) -> int:
    return (
        config.whole("d_sae")
        if "d_sae" in config.values
        else config.whole("d_in") * config.whole("expansion_factor")
    )


def _stated(config: Fields) -> Stated:
    about = _about(config)
    return Stated(
        l0=about.maybe("l0"), fvu=about.maybe("fvu"), model=about.text("model_name", "") or None
    )


def _reads_bos(about: Fields) -> bool:
    excluded = about.values.get("exclude_special_tokens")
    window = about.values.get("seqpos_slice")
    first = cast("list[object]", window)[0] if isinstance(window, list) and window else None
    return about.flag("prepend_bos", True) and not excluded and first in (None, 0)


def _scaler(folder: Path) -> dict[str, object]:
    """A checkpoint in mid-training has its factor beside it."""
    factor = (
        read_json(folder / SCALER).maybe("scaling_factor") if (folder / SCALER).is_file() else None
    )
    return {} if factor is None else {"norm_scaling_factor": factor}


def _normalisation(config: Fields) -> Normalisation:
    kind = config.values.get("normalize_activations") or "none"
    if kind is True:
        kind = "expected_average_only_in"
    if kind not in _NORMALISATIONS:
        if kind == "covariance_whitening":
            raise Unsupported(
                f"{config.file}: the whitening is not folded into the weights yet. Finish the training and use its final SAE."
            )
        raise bad(
            config.file, "normalize_activations", kind, f"one of {', '.join(_NORMALISATIONS)}"
        )
    if kind != "expected_average_only_in":
        return Normalisation(cast("NormalisationKind", kind))
    if "norm_scaling_factor" not in config.values:
        raise bad(
            config.file,
            "norm_scaling_factor",
            "missing",
            "the factor that 'expected_average_only_in' multiplies inputs by: write it there (1.0 if the weights have it folded in)",
        )
    if not 0 < (factor := config.number("norm_scaling_factor")) < 1e12:
        raise bad(config.file, "norm_scaling_factor", factor, "a positive number")
    return Normalisation("expected_average_only_in", factor)


def _encoder(config: Fields, arrays: Arrays, d: int, n: int) -> Architecture:
    name = config.text("architecture", "standard")
    activation = config.text("activation_fn", config.text("activation_fn_str", "relu"))
    if activation == "topk":
        name = "topk"
    elif activation != "relu":
        raise Unsupported(
            f"{config.file}: activation_fn is '{activation}'. Those that can be read: relu, topk."
        )
    if name not in _ARCHITECTURES:
        raise Unsupported(
            f"{config.file}: architecture is '{name}'. Those that can be read: {', '.join(_ARCHITECTURES)}."
        )
    W_enc = arrays.take("W_enc", [d, n])
    if name == "gated":
        return Gated(
            W_enc,
            arrays.take("b_gate", [n]),
            arrays.take_exponent("r_mag", [n]),
            arrays.take("b_mag", [n]),
        )
    b_enc = arrays.take("b_enc", [n])
    if name == "standard":
        return ReLU(W_enc, b_enc)
    if name == "topk":
        source = (
            config if config.values.get("k") is not None else config.child("activation_fn_kwargs")
        )
        if (k := source.whole("k")) > n:
            raise bad(config.file, "k", k, f"at most the {n} latents")
        return TopK(W_enc, b_enc, b_enc.new_ones(n), k)
    return _thresholded(config, W_enc, b_enc, _threshold(arrays, n))


def _threshold(arrays: Arrays, n: int) -> Tensor:
    """One number for all latents in a checkpoint of BatchTopK, one for each otherwise; its
    logarithm in old checkpoints."""
    if "topk_threshold" in arrays.values:
        return arrays.take("topk_threshold", []).expand(n).contiguous()
    if "log_threshold" in arrays.values:
        return arrays.take_exponent("log_threshold", [n]).exp()
    return arrays.take("threshold", [n])


def _thresholded(config: Fields, W_enc: Tensor, b_enc: Tensor, threshold: Tensor) -> Architecture:
    """The architecture that a JumpReLU at inference was in training."""
    about, name = _about(config), config.text("architecture")
    was = about.text("training_architecture", name) if name == "jumprelu" else name
    details = about.child("training_architecture_details") if name == "jumprelu" else config
    if was == "batchtopk":
        return BatchTopK(W_enc, b_enc, threshold, details.maybe("k"))
    if was in ("matryoshka_batchtopk", "matryoshka"):
        sizes = details.wholes("matryoshka_widths")
        if list(sizes) != sorted(set(sizes)) or sizes[-1:] != (W_enc.shape[1],):
            raise bad(
                config.file,
                "matryoshka_widths",
                list(sizes),
                f"rising widths that end at {W_enc.shape[1]}",
            )
        return Matryoshka(
            W_enc,
            b_enc,
            threshold,
            sizes,
            details.maybe("k") if was == "matryoshka_batchtopk" else None,
        )
    if was == "prolu":
        if b_enc.any() or (gradient := details.text("gradient", "relu")) not in ("relu", "ste"):
            raise bad(
                config.file,
                "training_architecture",
                was,
                "a bias of 0 and a gradient 'relu' or 'ste'",
            )
        return ProLU(W_enc, -threshold, gradient)
    return JumpReLU(W_enc, b_enc, threshold)


def _chosen_by_decoder_norm(sae: SAE, file: Path) -> SAE:
    """Latents compared, and cut off, as if the decoder had norm 1: true of the same SAE once its
    decoder has been given norm 1."""
    chosen_by = {
        name: array
        for name, array in sae.architecture.tensors().items()
        if name in ("priority", "threshold")
    }
    folded = fold_decoder_norms(sae)
    for name, array in {**folded.architecture.tensors(), "W_dec": folded.W_dec}.items():
        finite(array, file, f"{name} with the decoder's norms folded in")
    return replace(folded, architecture=rewritten(folded.architecture, chosen_by))


class _Written(NamedTuple):
    architecture: str
    settings: dict[str, object]
    arrays: dict[str, Tensor]
    was: dict[str, object]


def _written(encoder: Architecture) -> _Written:
    """The architecture as SAELens stores it, and, where that is another one, what it was in
    training."""
    weights = encoder.tensors()
    match encoder:
        case ReLU():
            return _Written("standard", {}, weights, {})
        case TopK():
            del weights["priority"]
            return _Written(
                "topk", {"k": encoder.k, "rescale_acts_by_decoder_norm": False}, weights, {}
            )
        case BatchTopK():
            return _Written("jumprelu", {}, weights, _trained_as("batchtopk", k=encoder.k))
        case Matryoshka():
            name = "matryoshka" if encoder.k is None else "matryoshka_batchtopk"
            return _Written(
                "jumprelu",
                {},
                weights,
                _trained_as(name, k=encoder.k, matryoshka_widths=list(encoder.sizes)),
            )
        case ProLU():
            # m > max(-b, 0) opens a ProLU; SAELens asks m > 0 of itself, so -b is a threshold that
            # keeps all of b.
            arrays = {
                "W_enc": encoder.W_enc,
                "b_enc": torch.zeros_like(encoder.b_enc),
                "threshold": -encoder.b_enc,
            }
            return _Written("jumprelu", {}, arrays, _trained_as("prolu", gradient=encoder.gradient))
        case _:
            return _Written(encoder.name, {}, weights, {})


def _trained_as(name: str, **details: object) -> dict[str, object]:
    return {"training_architecture": name, "training_architecture_details": details}
