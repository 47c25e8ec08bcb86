"""Load a model by name, hub id or local folder: one loader for both backends, checked against the
plain module.

Weights are those of the release, unprocessed, with eager attention; parameters are frozen. Nothing
is downloaded that is in the cache.
"""

from __future__ import annotations

import hashlib
import json
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sage.errors import BadFile, SageError, Unsupported, unknown
from sage.models.base import Engine, Model
from sage.models.families import families
from sage.models.families.family import Family
from sage.models.partial import Partial
from sage.models.weights import check_weights, weight_files

BACKENDS = ("transformer-lens", "nnsight")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
CHECKED_IDS = 8

_HUB = {
    "gpt2-small": "openai-community/gpt2",
    "pythia-70m-deduped": "EleutherAI/pythia-70m-deduped",
    "gemma-2-2b": "google/gemma-2-2b",
}
_ALIASES = {"gpt2": "gpt2-small"}
_ZOO = Path(__file__).parents[1] / "zoo"
_WIRED = "wired"


class KnownModel(NamedTuple):
    """A model that goes by a name, what it is, and where it comes from."""

    name: str
    what: str
    source: str


def known_models() -> list[KnownModel]:
    """The models with names: those of the hub, those that ship with sage, and the wired one."""
    embedded = [
        KnownModel(path.parent.name, "trained by this project", "ships with sage")
        for path in sorted(_ZOO.glob("*/config.json"))
    ]
    hub = [
        KnownModel(name, "downloaded at first use", identifier) for name, identifier in _HUB.items()
    ]
    return [
        *hub,
        *embedded,
        KnownModel(_WIRED, "hand-set weights, known circuit and features", "written at first use"),
    ]


def load_model(
    name: str,
    *,
    backend: str = "transformer-lens",
    device: str | None = None,
    dtype: str = "float32",
    remote: bool = False,
    batch_size: int | None = None,
    partial: bool = True,
) -> Model:
    """The model of that name, hub id or local folder in Hugging Face format.

    `device` is the accelerator by default, where there is one. `remote` is passed on to nnsight,
    for models too large for this machine. With `partial` edits are run by our own forward pass,
    which computes only what they change; else, and remotely, by the backend in full. Raises
    UnknownName, BadFile for missing, truncated or damaged files, Unsupported for an architecture or
    option sage does not have.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if remote and backend != "nnsight":
        raise Unsupported("Only the nnsight backend runs models remotely. Use backend='nnsight'.")
    if batch_size is not None and batch_size < 1:
        raise SageError(
            f"batch_size is {batch_size}. Give 1 or more, or none for as many prompts as keep memory small."
        )
    where = _find_device(device)
    folder = find_folder(name)
    if remote and (_ZOO in folder.parents or Path(name).expanduser().exists()):
        raise Unsupported(
            f"'{name}' is a model on this machine. remote=True runs models that are served under a hub id (owner/name)."
        )
    config = _config(folder)
    family = families()[config["model_type"]]
    files = weight_files(folder)
    for file in files:
        check_weights(file)
    hf = _load_module(folder, where, DTYPES[dtype])
    _check_variant(hf.config, family, folder)
    tokenizer = _load_tokenizer(folder, hf.config.vocab_size)
    ids = torch.arange(CHECKED_IDS, device=where)[None] % hf.config.vocab_size
    with torch.no_grad():
        expected = hf(ids).logits[:, -1]
    anatomy = family.anatomy(hf)
    own = Partial(family.network(hf, anatomy)) if partial and not remote else None
    if backend == "nnsight":
        from sage.models.traced import TracedEngine

        engine: Engine = TracedEngine(
            hf, family=family, remote=remote, source=_hub_id(name), tokenizer=tokenizer
        )
    else:
        from sage.models.hooked import HookedEngine

        engine = HookedEngine(hf, tokenizer, source=str(folder), device=where, dtype=DTYPES[dtype])
    # Models are served in half precision.
    _check_logits(
        engine.name, engine.forward(ids)[0], expected, name, "bfloat16" if remote else dtype
    )
    if own is not None:
        found = own.run(own.run_clean(ids), torch.zeros(1, dtype=torch.long), {}).logits
        _check_logits("The forward pass of sage itself", found, expected, name, dtype)
    bos = bool(config.get("sage_bos", family.bos))
    return Model(
        name,
        revision(files),
        anatomy,
        tokenizer,
        bos,
        engine,
        where,
        dtype,
        batch_size,
        partial=own,
    )


def find_folder(name: str) -> Path:
    """The local folder of a model: the wired model's, one that ships with sage, its own, or the
    hub's snapshot in the cache.

    A name sage knows is that model, whatever folders lie about; `./name` is the folder.
    """
    local = Path(name).expanduser()
    if name == _WIRED:
        from sage.models.wired import wired_folder

        return wired_folder()
    if (_ZOO / name / "config.json").is_file():
        return _ZOO / name
    if _hub_id(name) != name:
        return _download(_hub_id(name))
    if local.is_dir():
        return local
    if local.exists():
        raise BadFile(
            f"{local} is not a folder. Give the folder that holds config.json, model.safetensors and tokenizer.json."
        )
    if "/" not in name:
        names = [known.name for known in known_models()]
        raise unknown(
            "model",
            name,
            names,
            remedy="A hub id (owner/name) or a local folder in Hugging Face format works too.",
        )
    if name.startswith((".", "/", "~")):
        raise BadFile(
            f"There is no folder {local}. Give a folder in Hugging Face format, a hub id, or one of `sage models`."
        )
    return _download(name)


def _hub_id(name: str) -> str:
    """What a known name is called on the hub; other names as they are."""
    return _HUB.get(_ALIASES.get(name, name), name)


def revision(files: list[Path]) -> str:
    """The sha256 of the bytes of all weight files, one after the other."""
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(2**22):
                found.update(block)
    return found.hexdigest()


def _download(identifier: str) -> Path:
    """The hub's snapshot of a model, from the cache where it is whole there; a SageError says what
    was tried, and what to do."""
    import huggingface_hub as hub
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt"]
    try:
        cached = Path(
            hub.snapshot_download(identifier, allow_patterns=wanted, local_files_only=True)
        )
        if _is_whole(cached):
            return cached
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise SageError(
            f"'{identifier}' is neither a folder here nor a hub id (owner/name)."
        ) from error
    try:
        return Path(hub.snapshot_download(identifier, allow_patterns=wanted))
    except GatedRepoError as error:
        raise SageError(
            f"{identifier} is gated. Accept its licence on its hub page with your account, then run `hf auth login` (or set HF_TOKEN) "
            "and try again."
        ) from error
    except RepositoryNotFoundError as error:
        raise SageError(
            f"The hub has no model {identifier}, or it is private. Check the id, or log in with `hf auth login`."
        ) from error
    except OSError as error:
        why = str(error).strip().partition("\n")[0]
        raise SageError(
            f"{identifier} is not in the cache ({constants.HF_HUB_CACHE}) and could not be downloaded from the hub ({why}). "
            "Connect to the network, or copy the model's folder here and give its path instead of its name."
        ) from error


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and bool(weight_files(folder))
    except BadFile:
        return False


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise BadFile(
            f"{folder} has no config.json. A model folder has config.json, model.safetensors and tokenizer.json."
        )
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise BadFile(f"{path} is not a JSON object. Fetch the model again.")
    config, supported = cast("dict[str, Any]", found), families()
    if str(config.get("model_type")) not in supported:
        names = ", ".join(f"{kind} ({family.example})" for kind, family in supported.items())
        raise Unsupported(
            f"{path} has model_type {config.get('model_type')!r}; supported are {names}."
        )
    return config


def _load_module(folder: Path, device: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(
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
    hf, report = found
    if missing := sorted(report["missing_keys"]):
        raise BadFile(
            f"{folder}: the weight files lack {len(missing)} tensors, the first {missing[0]}. Fetch the model again."
        )
    return hf.to(device).eval().requires_grad_(False)


def _check_variant(config: Any, family: Family, folder: Path) -> None:
    """Unsupported where the configuration asks for what the family's anatomy does not describe."""
    for path, expected in family.only.items():
        given = reduce(
            lambda found, key: (
                found.get(key) if isinstance(found, dict) else getattr(found, key, None)
            ),
            path.split("."),
            config,
        )
        if given is not None and given != expected:
            raise Unsupported(
                f"{folder}/config.json has {path} = {given!r}; sage supports {family.example} models with {expected!r} only."
            )


def _load_tokenizer(folder: Path, d_vocab: int) -> Any:
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise BadFile(
            f"{folder} has no tokenizer.json. sage finds positions by characters, so it needs a fast tokenizer."
        )
    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise BadFile(
            f"{folder} has no usable tokenizer ({error}). It needs tokenizer.json."
        ) from error
    if len(found) > d_vocab:
        raise BadFile(
            f"{folder}: the tokenizer has {len(found)} tokens, the model's vocabulary {d_vocab}. They are not of one model."
        )
    return found


def _check_logits(who: str, found: Tensor, expected: Tensor, name: str, dtype: str) -> None:
    """Whoever runs the model must say what the plain module says, up to rounding, which grows with
    the logits."""
    difference = float((found.float() - expected.float()).abs().max())
    allowed = TOLERANCE[dtype] * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise SageError(
            f"{who} disagrees with transformers on {name}: logits differ by {difference:.2g}, more than {allowed:.1g}. "
            "Use the other backend, or the library versions in constraints.txt."
        )


def _find_device(device: str | None) -> str:
    """The device of that name; without a name the accelerator, if there is one."""
    accelerators = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    present = [*(kind for kind, here in accelerators.items() if here), "cpu"]
    try:
        found = torch.device(device or present[0])
    except RuntimeError as error:
        raise unknown("device", str(device), present) from error
    if found.type not in present:
        raise Unsupported(f"This machine has no device '{device}'. It has: {', '.join(present)}.")
    return str(found)
