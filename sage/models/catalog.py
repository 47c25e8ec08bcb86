"""Where models are: beside sage, in its cache, in local folders and GGUF files, and on the hub.

Those that ship with it, the wired one, and those that `sage real` fetches go by names. Nothing is
downloaded that is in the cache of the hub, or in sage's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sage.errors import BadFile, SageError, unknown
from sage.files import cache_folder
from sage.models.weights import weight_files

_HUB = {
    "gpt2-small": "openai-community/gpt2",
    "pythia-70m-deduped": "EleutherAI/pythia-70m-deduped",
    "gemma-2-2b": "google/gemma-2-2b",
}
# `sage real` gets these out of Python packages; the hub has them too, at full precision.
_PACKAGED = {
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "gemma-3-270m": "google/gemma-3-270m",
}
_ALIASES = {"gpt2": "gpt2-small"}
_ZOO = Path(__file__).parents[1] / "zoo"
_WIRED = "wired"
_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")


class KnownModel(NamedTuple):
    """A model that goes by a name, what it is, and where it comes from."""

    name: str
    what: str
    source: str


def known_models() -> list[KnownModel]:
    """The models with names: those of the hub, those that ship with sage, and the wired one."""
    hub = [KnownModel(name, "downloaded at first use", hub) for name, hub in _HUB.items()]
    fetched = "fetched by `sage real`, else downloaded"
    packaged = [KnownModel(name, fetched, hub) for name, hub in _PACKAGED.items()]
    embedded = [
        KnownModel(path.parent.name, "trained by this project", "ships with sage")
        for path in sorted(_ZOO.glob("*/config.json"))
    ]
    what = "hand-set weights, known circuit and features"
    return [*hub, *packaged, *embedded, KnownModel(_WIRED, what, "written at first use")]


def find_folder(name: str) -> Path:
    """The local folder of a model: the wired model's, one that ships with sage, one that was
    fetched, its own, that of a GGUF file's weights, or the hub's snapshot in the cache.

    A name sage knows is that model, whatever folders lie about; `./name` is the folder.
    """
    if name == _WIRED:
        from sage.models.wired import wired_folder

        return wired_folder()
    if (_ZOO / name / "config.json").is_file():
        return _ZOO / name
    if name in _PACKAGED and (packaged_folder(name) / "config.json").is_file():
        return packaged_folder(name)
    if hub_id(name) != name:
        return _download(hub_id(name))
    local = Path(name).expanduser()
    if local.is_dir():
        return local
    if local.is_file() and local.suffix == ".gguf":
        from sage.models.gguf import gguf_folder

        return gguf_folder(local)
    if local.exists():
        raise BadFile(
            f"{local} is not a folder. Give the folder that holds config.json, model.safetensors "
            "and tokenizer.json."
        )
    if "/" not in name:
        names = [model.name for model in known_models()]
        remedy = "A hub id (owner/name) or a local folder in Hugging Face format works too."
        raise unknown("model", name, names, remedy=remedy)
    if name.startswith((".", "/", "~")):
        raise BadFile(
            f"There is no folder {local}. Give a folder in Hugging Face format, a hub id, or one "
            "of `sage models`."
        )
    return _download(name)


def packaged_folder(name: str) -> Path:
    """Where a model that `sage real` fetches lies in the cache, fetched or not."""
    return cache_folder() / "models" / name


def is_embedded(name: str) -> bool:
    """Whether a model of that name ships with sage."""
    return "/" not in name and (_ZOO / name / "config.json").is_file()


def hub_id(name: str) -> str:
    """What a known name is called on the hub; other names as they are."""
    return (_HUB | _PACKAGED).get(_ALIASES.get(name, name), name)


def is_on_this_machine_only(name: str, folder: Path) -> bool:
    """Whether the model of that name, found in that folder, is not one of the hub."""
    return _ZOO in folder.parents or Path(name).expanduser().exists()


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

    files: list[str] = [*_FILES]
    try:
        cached = hub.snapshot_download(identifier, allow_patterns=files, local_files_only=True)
        if _is_whole(Path(cached)):
            return Path(cached)
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise SageError(
            f"'{identifier}' is neither a folder here nor a hub id (owner/name)."
        ) from error
    try:
        return Path(hub.snapshot_download(identifier, allow_patterns=files))
    except GatedRepoError as error:
        raise SageError(
            f"{identifier} is gated. Accept its licence on its hub page with your account, then "
            "run `hf auth login` (or set HF_TOKEN) and try again."
        ) from error
    except RepositoryNotFoundError as error:
        raise SageError(
            f"The hub has no model {identifier}, or it is private. Check the id, or log in with "
            "`hf auth login`."
        ) from error
    except OSError as error:
        why = str(error).strip().partition("\n")[0]
        raise SageError(
            f"{identifier} is not in the cache ({constants.HF_HUB_CACHE}) and could not be "
            f"downloaded from the hub ({why}). Connect to the network, or copy the model's folder "
            f"here and give its path instead of its name.{_other_way(identifier)}"
        ) from error


def _other_way(identifier: str) -> str:
    """How else a model is got that Python packages hold."""
    named = [name for name, hub in _PACKAGED.items() if hub == identifier]
    return f" `sage real --fetch {named[0]}` gets it from Python packages." if named else ""


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and bool(weight_files(folder))
    except BadFile:
        return False
