"""SAELens: cfg.json and sae_weights.safetensors, of any version.

https://github.com/decoderesearch/SAELens. Before version 6 the configuration is flat and says
`hook_point`, `activation_fn_str`, `normalize_activations` as a flag; since then what concerns the
model is in `metadata`. A BatchTopK or Matryoshka SAE is stored as the JumpReLU it is at inference,
with `training_architecture` saying what it was; we store a ProLU in the same way, so that SAELens
reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from sage.errors import Unsupported
from sage.files import write_json
from sage.nodes import Node
from sage.saes.architectures.architecture import architectures, find_architecture
from sage.saes.formats.format import Description
from sage.saes.sae import (
    SAE,
    Encoder,
    Normalisation,
    NormalisationKind,
    Stated,
    fold_decoder_norms,
    fold_factor,
    with_tensors,
)
from sage.saes.sae_files import (
    Arrays,
    Fields,
    finite,
    folder_of,
    read_json,
    read_safetensors,
    unexpected,
    write_safetensors,
)
from sage.saes.stored import SAELensForm, StoredSAE

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
TITLE, FILES, LOADER = "SAELens", (CONFIG, WEIGHTS), "sae_lens"

_VERSION = "6.0.0"
_AT_INFERENCE = "jumprelu"
_HOOK = re.compile(r"blocks\.(\d{1,4})\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)")
_ACTIVATIONS = ("activation_fn", "activation_fn_str")
_FINE_TUNING = "finetuning_scaling_factor"
_NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")


def recognises(path: Path) -> bool:
    """Whether there is a sae_weights.safetensors."""
    return (folder_of(path, FILES) / WEIGHTS).is_file()


def describe(path: Path) -> Description:
    """Hook, width and stated quality, from the configuration."""
    config = read_json(folder_of(path, FILES) / CONFIG)
    return Description(hook_of(_about(config)), _width(config), _stated(config))


def load(path: Path, *, overrides: Mapping[str, object] | None = None) -> SAE:
    """The SAE in a SAELens folder.

    `overrides` replace fields of its configuration, as a release's registry may do.
    """
    folder = folder_of(path, FILES)
    config = read_json(folder / CONFIG)
    values = {**_scaler(folder), **config.values, **(overrides or {})}
    if "metadata" in values:
        values["metadata"] = {**config.child("metadata").values, **(overrides or {})}
    config = Fields(config.file, values)
    return read(config, read_safetensors(folder / WEIGHTS), name=folder.name)


def read(config: Fields, arrays: Arrays, *, name: str) -> SAE:
    """The SAE that a configuration and its arrays describe."""
    about = _about(config)
    hook, d_model, width = hook_of(about), config.integer("d_in"), _width(config)
    _refuse_heads(config)
    stored = StoredSAE(_architecture_name(config), config, arrays, d_model, width)
    encoder = _encoder(stored)
    _check_k(stored, encoder)
    W_dec, b_dec = _fine_tuned(stored, stored.take("W_dec")), stored.take("b_dec")
    arrays.close()
    kwargs = about.child("model_from_pretrained_kwargs")
    sae = SAE(
        id=name,
        encoder=encoder,
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
    """Write cfg.json and sae_weights.safetensors into the folder `path`, as SAELens 6 does.

    What SAELens lacks is folded into the weights.
    """
    architecture = find_architecture(sae.encoder.name)
    sae = architecture.storable(fold_factor(sae))
    record = architecture.saelens.write(sae.encoder)
    metadata: dict[str, object] = {
        "sae_lens_version": _VERSION,
        "model_name": sae.stated.model,
        "hook_name": hook_name(sae.hook),
        "hook_head_index": None,
        "prepend_bos": sae.reads_bos,
        "model_from_pretrained_kwargs": {"center_writing_weights": True} if sae.centred else {},
        "l0": sae.stated.l0,
        "fvu": sae.stated.fvu,
        **record.metadata,
    }
    config: dict[str, object] = {
        "architecture": record.architecture,
        "d_in": sae.d_model,
        "d_sae": sae.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_b_dec,
        "normalize_activations": sae.normalisation.kind,
        "reshape_activations": "none",
        **record.settings,
        "metadata": metadata,
    }
    write_safetensors(path / WEIGHTS, {**record.arrays, "W_dec": sae.W_dec, "b_dec": sae.b_dec})
    write_json(path / CONFIG, config)


def hook_of(about: Fields) -> Node:
    """The node that a configuration's hook name means."""
    is_old = about.values.get("hook_name") is None and "hook_point" in about.values
    name = about.text("hook_point" if is_old else "hook_name")
    if name == "hook_embed":
        return Node("embed", -1)
    if match := _HOOK.fullmatch(name):
        return Node(match[2], int(match[1]))
    if re.fullmatch(r"(blocks\.\d+\.)?[a-z0-9_.]*hook_[a-z_]+", name):
        raise Unsupported(
            f"{about.file}: the SAE reads '{name}'. Only SAEs of the residual stream "
            "(blocks.N.hook_resid_...) can be judged."
        )
    raise unexpected(
        about.file, about.prefix + "hook_name", name, "a hook such as blocks.8.hook_resid_pre"
    )


def hook_name(hook: Node) -> str:
    """The name SAELens gives a node."""
    return "hook_embed" if hook.kind == "embed" else f"blocks.{hook.layer}.hook_{hook.kind}"


def _about(config: Fields) -> Fields:
    """The part of a configuration that concerns the model."""
    return config.child("metadata") if "metadata" in config.values else config


def _width(config: Fields) -> int:
    if config.states("d_sae") or not config.states("expansion_factor"):
        return config.integer("d_sae")
    return config.times("d_in", "expansion_factor")


def _stated(config: Fields) -> Stated:
    about = _about(config)
    return Stated(
        l0=about.stated("l0"),
        fvu=about.stated("fvu"),
        model=about.text("model_name", "") or None,
    )


def _reads_bos(about: Fields) -> bool:
    excluded = about.values.get("exclude_special_tokens")
    window = about.values.get("seqpos_slice")
    first = cast("list[object]", window)[0] if isinstance(window, list) and window else None
    return about.flag("prepend_bos", True) and not excluded and first in (None, 0)


def _refuse_heads(config: Fields) -> None:
    about = _about(config)
    heads = (about.values.get(name) for name in ("hook_head_index", "hook_point_head_index"))
    reshaped = config.text("reshape_activations", "none") != "none"
    if any(head is not None for head in heads) or reshaped:
        raise Unsupported(
            f"{config.file}: an SAE of attention heads. "
            "Only SAEs of the residual stream can be judged."
        )


def _scaler(folder: Path) -> dict[str, object]:
    """The factor that stands beside a checkpoint in mid-training, if it is one."""
    file = folder / SCALER
    factor = read_json(file).optional_number("scaling_factor") if file.is_file() else None
    return {} if factor is None else {"norm_scaling_factor": factor}


def _normalisation(config: Fields) -> Normalisation:
    kind = config.values.get("normalize_activations") or "none"
    if kind is True:
        kind = "expected_average_only_in"
    if kind == "covariance_whitening":
        raise Unsupported(
            f"{config.file}: the whitening is not folded into the weights yet. "
            "Finish the training and use its final SAE."
        )
    if kind not in _NORMALISATIONS:
        raise unexpected(
            config.file, "normalize_activations", kind, f"one of {', '.join(_NORMALISATIONS)}"
        )
    if kind != "expected_average_only_in":
        return Normalisation(cast("NormalisationKind", kind))
    if "norm_scaling_factor" not in config.values:
        raise unexpected(
            config.file,
            "norm_scaling_factor",
            "missing",
            "the factor that 'expected_average_only_in' multiplies inputs by: "
            "write it there (1.0 if the weights have it folded in)",
        )
    if not 0 < (factor := config.number("norm_scaling_factor")) < 1e12:
        raise unexpected(config.file, "norm_scaling_factor", factor, "a positive number")
    return Normalisation("expected_average_only_in", factor)


def _architecture_name(config: Fields) -> str:
    """What a configuration calls the architecture; Unsupported where none of ours is called so."""
    name = config.text("architecture", "standard")
    activation = config.text("activation_fn", config.text("activation_fn_str", "relu"))
    says_neither = not any(map(config.states, ("architecture", *_ACTIVATIONS)))
    if activation == "topk" or (says_neither and _states_k(config)):
        name = "topk"
    elif activation != "relu":
        raise Unsupported(
            f"{config.file}: activation_fn is '{activation}'. Those that can be read: relu, topk."
        )
    names = [name for form in _forms() for name in form.names]
    if name not in names:
        raise Unsupported(
            f"{config.file}: architecture is '{name}'. "
            f"Those that can be read: {', '.join(sorted(names))}."
        )
    return name


def _states_k(config: Fields) -> bool:
    return config.states("k") or config.child("activation_fn_kwargs").states("k")


def _check_k(stored: StoredSAE, encoder: Encoder) -> None:
    """BadFile where a configuration says how many latents a token keeps, and its architecture and
    activation keep no number of them: one of the two is not what the SAE was trained with."""
    config = stored.settings
    has_no_k = "k" not in encoder.settings() and "threshold" not in encoder.tensors()
    if has_no_k and _states_k(config):
        raise unexpected(
            config.file,
            "k",
            "stated beside an architecture and an activation that keep no number of latents "
            f"({encoder.name})",
            "activation_fn 'topk' (or architecture 'topk') if each token keeps k latents; "
            "no k if it does not",
        )
    top, inner = config.values.get("k"), config.child("activation_fn_kwargs").values.get("k")
    if top is not None and inner is not None and top != inner:
        raise unexpected(config.file, "k", f"{top} at the top and {inner} inside", "one number")


def _fine_tuned(stored: StoredSAE, W_dec: Tensor) -> Tensor:
    """The decoder times the scale that fine-tuning gave every latent's code.

    SAELens 3 to 5 stored one of ones where none was used, and a flag that says whether one was;
    BadFile where the two contradict each other. The oldest files have no flag.
    """
    config, arrays = stored.settings, stored.arrays
    names = [name for name in (_FINE_TUNING, "scaling_factor") if name in arrays.values]
    says = config.flag(_FINE_TUNING) if config.states(_FINE_TUNING) else None
    if not names:
        if says:
            raise unexpected(arrays.file, _FINE_TUNING, "missing", f"one, as {config.file} says")
        return W_dec
    scale = stored.take(names[0])
    if says is False and bool((scale != 1).any()):
        raise unexpected(
            arrays.file,
            names[0],
            f"not 1 in {int((scale != 1).sum())} of {len(scale)} values",
            f"ones, since {config.file} says {_FINE_TUNING} false; if codes are scaled, say true",
        )
    return finite(W_dec * scale[:, None], arrays.file, f"W_dec times {names[0]}")


def _encoder(stored: StoredSAE) -> Encoder:
    """The encoder; what is a JumpReLU at inference becomes what it was in training."""
    _name_threshold(stored)
    if stored.architecture == _AT_INFERENCE:
        about = _about(stored.settings)
        name = about.text("training_architecture", _AT_INFERENCE)
        for form in _forms():
            if name in form.training_names:
                details = about.child("training_architecture_details")
                return form.read(replace(stored, architecture=name, settings=details))
    (form,) = (form for form in _forms() if stored.architecture in form.names)
    return form.read(stored)


def _forms() -> list[SAELensForm[Any]]:
    return [architecture.saelens for architecture in architectures().values()]


def _name_threshold(stored: StoredSAE) -> None:
    """Give every kind of threshold the one name and shape, `threshold` [latent].

    A checkpoint of BatchTopK has one number for all latents, old checkpoints the logarithm.
    """
    arrays = stored.arrays
    if "threshold" in arrays.values:
        return
    if "topk_threshold" in arrays.values:
        threshold = arrays.take("topk_threshold", []).expand(stored.width).contiguous()
    elif "log_threshold" in arrays.values:
        threshold = arrays.take("log_threshold", [stored.width]).exp()
        finite(threshold, arrays.file, "exp(log_threshold)")
    else:
        return
    arrays.values["threshold"] = threshold


def _chosen_by_decoder_norm(sae: SAE, file: Path) -> SAE:
    """Latents compared, and cut off, as if the decoder had norm 1.

    That is true of the same SAE once its decoder has been given norm 1.
    """
    chosen_by: dict[str, Tensor] = {
        name: array
        for name, array in sae.encoder.tensors().items()
        if name in ("priority", "threshold")
    }
    folded = fold_decoder_norms(sae)
    for name, array in {**folded.encoder.tensors(), "W_dec": folded.W_dec}.items():
        finite(array, file, f"{name} with the decoder's norms folded in")
    return replace(folded, encoder=with_tensors(folded.encoder, chosen_by))
