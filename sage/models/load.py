"""Load a model by name, hub id or local folder: one loader for both backends, checked at once.

Weights are those of the release, unprocessed, with eager attention; parameters are frozen. What the
backend and sage's own forward pass say must be what the plain module says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sage.errors import BadFile, SageError, Unsupported, unknown
from sage.models.base import Model
from sage.models.catalog import find_folder, hub_id, is_on_this_machine_only
from sage.models.engine import Engine
from sage.models.families import families
from sage.models.families.family import Family
from sage.models.folder_check import check_config, read_object, refusing
from sage.models.network import Network
from sage.models.partial import PartialForward
from sage.models.tokenizers import read_tokenizer
from sage.models.weights import check_weights, revision, weight_files

BACKENDS = ("transformer-lens", "nnsight")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
CHECKED_IDS = 8


class LoadedFolder(NamedTuple):
    """A model folder as transformers reads it, with the digest of the files that decide it."""

    folder: Path
    module: Any
    tokenizer: Any
    family: Family
    bos: bool
    revision: str


@refusing
def load_model(
    name: str,
    *,
    backend: str = "transformer-lens",
    device: str | None = None,
    dtype: str = "float32",
    remote: bool = False,
    batch_size: int | None = None,
    partial: bool = True,
    bos: bool | None = None,
) -> Model:
    """The model of that name, hub id or local folder in Hugging Face format.

    `device` is the accelerator by default, where there is one. `remote` is passed on to nnsight,
    for models too large for this machine. `bos` is whether prompts begin with the BOS token: by
    default what config.json says in `sage_bos`, else what the tokenizer does itself, else what is
    usual in the family; a model whose prompts begin otherwise has another `revision`. With
    `partial` edits are run by our own forward pass, which computes only what they change; else, and
    remotely, by the backend in full. Raises UnknownName, BadFile for missing, truncated or damaged
    files, Unsupported for an architecture or option sage does not have.
    """
    _check_options(backend, dtype, remote=remote, batch_size=batch_size)
    where = _find_device(device)
    folder = find_folder(name)
    if remote:
        _check_remote(name, folder)
    loaded = _load_folder(folder, where, DTYPES[dtype])
    hf, family = loaded.module, loaded.family
    # Before a backend wraps the module.
    anatomy = family.anatomy(hf)
    network = family.network(hf, anatomy)
    ids, expected = _expected(hf, network, where)
    if backend == "nnsight":
        engine = _traced(loaded, hub_id(name), remote=remote)
    else:
        engine = _hooked(loaded, where, DTYPES[dtype])
    # Models are served in half precision.
    precision = "bfloat16" if remote else dtype
    _check_logits(engine.name, engine.forward(ids)[0], expected, name, precision)
    own_forward = PartialForward(network) if partial and not remote else None
    if own_forward is not None:
        answer = own_forward.run(own_forward.run_clean(ids), torch.zeros(1, dtype=torch.long), {})
        _check_logits("The forward pass of sage itself", answer.logits, expected, name, dtype)
    return Model(
        name,
        _marked_revision(loaded, bos, name),
        anatomy,
        loaded.tokenizer,
        loaded.bos if bos is None else bos,
        engine,
        where,
        dtype,
        batch_size,
        partial=own_forward,
        positions=network.positions,
    )


def _expected(hf: Any, network: Network, device: str) -> tuple[Tensor, Tensor]:
    """The ids of a short prompt, and the logits of the plain module at its end."""
    length = min(CHECKED_IDS, network.positions or CHECKED_IDS)
    ids = torch.arange(length, device=device)[None] % hf.config.vocab_size
    with torch.no_grad():
        return ids, hf(ids).logits[:, -1]


def _check_options(backend: str, dtype: str, *, remote: bool, batch_size: int | None) -> None:
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if remote and backend != "nnsight":
        raise Unsupported("Only the nnsight backend runs models remotely. Use backend='nnsight'.")
    if batch_size is not None and batch_size < 1:
        raise SageError(
            f"batch_size is {batch_size}. Give 1 or more, or none for as many prompts as keep "
            "memory small."
        )


def _check_remote(name: str, folder: Path) -> None:
    if is_on_this_machine_only(name, folder):
        raise Unsupported(
            f"'{name}' is a model on this machine. remote=True runs models that are served under a "
            "hub id (owner/name)."
        )


def _find_device(device: str | None) -> str:
    """The device of that name; without a name the accelerator, if there is one."""
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    present = [*(kind for kind, here in accelerators.items() if here), "cpu"]
    try:
        chosen = torch.device(device or present[0])
    except RuntimeError as error:
        raise unknown("device", str(device), present) from error
    if chosen.type not in present:
        raise Unsupported(f"This machine has no device '{device}'. It has: {', '.join(present)}.")
    return str(chosen)


def _load_folder(folder: Path, device: str, dtype: torch.dtype) -> LoadedFolder:
    config = _read_config(folder)
    family = families()[config["model_type"]]
    weights = weight_files(folder)
    for file in weights:
        check_weights(file)
    hf = _load_module(folder, device, dtype)
    _check_variant(hf.config, family, folder)
    tokenizer = _load_tokenizer(folder, hf.config.vocab_size)
    vocabulary = tokenizer.vocab_files_names.values()
    bos = _begins_with_bos(config, tokenizer, family)
    return LoadedFolder(folder, hf, tokenizer, family, bos, revision(folder, weights, vocabulary))


def _begins_with_bos(config: Mapping[str, Any], tokenizer: Any, family: Family) -> bool:
    """Whether this model's prompts begin with BOS: its configuration's word, its tokenizer's habit,
    its family's custom."""
    if "sage_bos" in config:
        return bool(config["sage_bos"])
    bos = tokenizer.bos_token_id
    if bos is None:
        return False
    return tokenizer("a").input_ids[:1] == [bos] or family.bos


def _marked_revision(loaded: LoadedFolder, bos: bool | None, name: str) -> str:
    """The revision, marked where prompts are to begin otherwise than by default; Unsupported where
    they are to begin with a token that there is not."""
    if bos is None or bos == loaded.bos:
        return loaded.revision
    if bos and loaded.tokenizer.bos_token_id is None:
        raise Unsupported(f"The tokenizer of {name} has no BOS token for prompts to begin with.")
    return f"{loaded.revision}-{'bos' if bos else 'no-bos'}"


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model of a supported family, whose weights lie where weights do."""
    path = folder / "config.json"
    if not path.is_file():
        raise BadFile(
            f"{folder} has no config.json. A model folder has config.json, model.safetensors and "
            "tokenizer.json."
        )
    config, supported = read_object(path), families()
    if str(config.get("model_type")) not in supported:
        names = ", ".join(f"{kind} ({family.example})" for kind, family in supported.items())
        raise Unsupported(
            f"{path} has model_type {config.get('model_type')!r}; supported are {names}."
        )
    check_config(config, path)
    if file := config.get("transformers_weights"):
        raise Unsupported(
            f"{path} says that the weights are in {file}. Call the file model.safetensors, and "
            "remove transformers_weights."
        )
    if (folder / "adapter_config.json").is_file():
        raise Unsupported(
            f"{folder} holds an adapter beside the model. Merge it into the weights, or remove "
            "adapter_config.json to use the model without it."
        )
    return config


def _load_module(folder: Path, device: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation="eager",
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
        )
    except (ValueError, RuntimeError, KeyError, OSError, AttributeError, TypeError) as error:
        raise BadFile(f"{folder} could not be loaded: {error}") from error
    finally:
        logging.enable_progress_bar()
    hf, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise BadFile(
            f"{folder}: the weight files lack {len(missing)} tensors, the first {missing[0]}. "
            "Fetch the model again."
        )
    return hf.to(device).eval().requires_grad_(False)


def _check_variant(config: Any, family: Family, folder: Path) -> None:
    """Unsupported where the configuration asks for what the family's anatomy does not describe."""
    for path, expected in family.only.items():
        given = reduce(_field, path.split("."), config)
        possible = expected if isinstance(expected, tuple) else (expected,)
        if given is not None and given not in possible:
            described = " or ".join(map(repr, possible))
            raise Unsupported(
                f"{folder}/config.json has {path} = {given!r}; sage supports {family.example} "
                f"models with {described} only."
            )


def _field(config: Any, name: str) -> Any:
    """A field of a configuration or of a mapping in it; None where there is none."""
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)


def _load_tokenizer(folder: Path, d_vocab: int) -> Any:
    tokenizer: Any = read_tokenizer(folder)
    if len(tokenizer) > d_vocab:
        raise BadFile(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model's vocabulary "
            f"{d_vocab}. They are not of one model."
        )
    return tokenizer


def _hooked(loaded: LoadedFolder, device: str, dtype: torch.dtype) -> Engine:
    from sage.models.hooked import HookedEngine

    source, tokenizer = str(loaded.folder), loaded.tokenizer
    return HookedEngine(loaded.module, tokenizer, source=source, device=device, dtype=dtype)


def _traced(loaded: LoadedFolder, source: str, *, remote: bool) -> Engine:
    from sage.models.traced import TracedEngine

    return TracedEngine(
        loaded.module,
        family=loaded.family,
        remote=remote,
        source=source,
        tokenizer=loaded.tokenizer,
    )


def _check_logits(who: str, logits: Tensor, expected: Tensor, name: str, dtype: str) -> None:
    """Whoever runs the model must say what the plain module says, up to rounding, which grows with
    the logits."""
    difference = float((logits.float() - expected.float()).abs().max())
    allowed = TOLERANCE[dtype] * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise SageError(
            f"{who} disagrees with transformers on {name}: logits differ by {difference:.2g}, more "
            f"than {allowed:.1g}. Use the other backend, or the library versions in "
            "constraints.txt."
        )
