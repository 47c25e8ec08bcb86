"""dictionary_learning: ae.pt and config.json, a class of dictionary for each architecture.

https://github.com/saprmarks/dictionary_learning. ae.pt is a torch archive, and a pickle inside it
says how its arrays are put together: a pickle can name any function to call. It is read in full
before torch sees it, and refused unless all it calls rebuilds tensors.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sage.errors import BadFile, Unsupported
from sage.files import write_atomically, write_json
from sage.nodes import Node
from sage.saes.architectures.architecture import architectures, find_architecture
from sage.saes.formats.format import Description
from sage.saes.sae import SAE, Normalisation, Stated
from sage.saes.sae_files import (
    Arrays,
    Fields,
    check_unpacked,
    folder_of,
    read_json,
    unexpected,
    unreadable,
)
from sage.saes.stored import DictionaryClass, StoredSAE, is_transposed

CONFIG, WEIGHTS = "config.json", "ae.pt"
TITLE, FILES, LOADER = "dictionary_learning", (CONFIG, WEIGHTS), "dictionary_learning_1"

_ELEMENT_TYPES = (
    "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
)  # fmt: skip
_REBUILDS = {
    *(f"torch {element}Storage" for element in _ELEMENT_TYPES),
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
}
# The pickle says how a few arrays are put together; the arrays are in other files of the archive.
_LARGEST_PICKLE_BYTES = 10**6
_CALLS = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ", "NEWOBJ_EX"}
_ERRORS_OF_TORCH = (
    OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, RuntimeError,
    MemoryError, OverflowError, AssertionError, ImportError, struct.error, zipfile.BadZipFile,
    zlib.error, pickle.UnpicklingError,
)  # fmt: skip


def recognises(path: Path) -> bool:
    """Whether there is an ae.pt."""
    return (folder_of(path, FILES) / WEIGHTS).is_file()


def describe(path: Path) -> Description:
    """Hook, width and k, from the configuration."""
    config = read_json(folder_of(path, FILES) / CONFIG)
    trainer = config.child("trainer")
    return Description(_hook(config), trainer.integer("dict_size"), _stated(trainer))


def load(path: Path) -> SAE:
    """The SAE in a dictionary_learning folder."""
    folder = folder_of(path, FILES)
    config = read_json(folder / CONFIG)
    hook, trainer = _hook(config), config.child("trainer")
    dictionary_class = _class_of(trainer)
    stored = StoredSAE(
        dictionary_class.name,
        trainer,
        Arrays(folder / WEIGHTS, _read(folder / WEIGHTS)),
        trainer.integer("activation_dim"),
        trainer.integer("dict_size"),
        dictionary_class.array_names,
    )
    encoder = dictionary_class.read(stored)
    if trainer.states("k") and "k" not in encoder.settings():
        raise unexpected(
            config.file,
            "trainer.k",
            f"stated beside {dictionary_class.name}, which keeps no number of latents",
            "a class that does, such as AutoEncoderTopK, or no k",
        )
    W_dec, b_dec = stored.take("W_dec"), stored.take("b_dec")
    stored.arrays.close()
    return SAE(
        id="/".join(folder.parts[-2:]),
        encoder=encoder,
        W_dec=W_dec,
        b_dec=b_dec,
        hook=hook,
        subtract_b_dec=dictionary_class.subtracts_b_dec,
        reads_bos=_reads_bos(trainer.text("lm_name", "")),
        stated=_stated(trainer),
        source=str(folder),
    )


def save(sae: SAE, path: Path) -> None:
    """Write ae.pt and config.json into the folder `path`."""
    sae = find_architecture(sae.encoder.name).storable(sae)
    class_name, arrays = _written(sae)
    if (
        sae.normalisation != Normalisation()
        or sae.centred
        or sae.reads_bos != _reads_bos(sae.stated.model or "")
        or sae.hook.kind not in ("resid_pre", "resid_post")
    ):
        raise Unsupported(
            f"SAE '{sae.id}' cannot be a dictionary_learning folder: these read raw activations "
            "before or after a layer, with BOS for Gemma alone. Save it in SAELens format."
        )
    trainer = {
        "dict_class": class_name,
        "activation_dim": sae.d_model,
        "dict_size": sae.width,
        "layer": sae.hook.layer,
        "lm_name": sae.stated.model or "",
        "submodule_name": f"{sae.hook.kind}_layer_{sae.hook.layer}",
        **({"k": int(arrays["k"])} if "k" in arrays else {}),
    }
    content = BytesIO()
    torch.save({name: array.detach().cpu().contiguous() for name, array in arrays.items()}, content)
    write_atomically(path / WEIGHTS, content.getvalue())
    write_json(
        path / CONFIG, {"trainer": trainer, "buffer": {"d_submodule": sae.d_model, "io": "out"}}
    )


def _hook(config: Fields) -> Node:
    trainer, side = config.child("trainer"), config.child("buffer").text("io", "out")
    layer, name = trainer.integer("layer", least=0), trainer.text("submodule_name", "")
    if side not in ("in", "out"):
        raise Unsupported(
            f"{config.file}: buffer.io says a transcoder. "
            "Only dictionaries that reconstruct what they read can be judged."
        )
    if "mlp" in name:
        return Node("mlp_out", layer)
    if "attn" in name or "attention" in name:
        return Node("attn_out", layer)
    enters_layer = side == "in" or "resid_pre" in name
    return Node("resid_pre" if enters_layer else "resid_post", layer)


def _stated(trainer: Fields) -> Stated:
    model = trainer.text("lm_name", "").rsplit("/", 1)[-1]
    return Stated(l0=trainer.optional_number("k"), model=model or None)


def _reads_bos(model: str) -> bool:
    """The library trains on text with BOS for Gemma alone."""
    return "gemma" in model.lower()


def _classes() -> dict[str, DictionaryClass[Any]]:
    """The library's classes that can be read, by name."""
    classes: dict[str, DictionaryClass[Any]] = {}
    for architecture in architectures().values():
        classes.update({each.name: each for each in architecture.dictionary_learning})
    return classes


def _class_of(trainer: Fields) -> DictionaryClass[Any]:
    name, classes = trainer.text("dict_class"), _classes()
    if name not in classes:
        raise Unsupported(
            f"{trainer.file}: trainer.dict_class is '{name}'. "
            f"Those that can be read: {', '.join(classes)}."
        )
    return classes[name]


def _written(sae: SAE) -> tuple[str, dict[str, Tensor]]:
    """The name of the class that can hold an SAE, and its arrays as that class names them."""
    for dictionary_class in find_architecture(sae.encoder.name).dictionary_learning:
        if dictionary_class.subtracts_b_dec != sae.subtract_b_dec:
            continue
        arrays = dictionary_class.write(sae.encoder)
        if arrays is not None:
            arrays = {**arrays, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
            return dictionary_class.name, _renamed(arrays, dictionary_class)
    bias = "subtracted" if sae.subtract_b_dec else "not subtracted"
    raise Unsupported(
        f"SAE '{sae.id}' ({sae.encoder.name}, b_dec {bias}) is of none of the classes of "
        f"dictionary_learning ({', '.join(_classes())}). Save it in SAELens format."
    )


def _renamed(
    arrays: dict[str, Tensor], dictionary_class: DictionaryClass[Any]
) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, array in arrays.items():
        stored_name = dictionary_class.array_names.get(name, name)
        renamed[stored_name] = array.T if is_transposed(stored_name) else array
    return renamed


def _read(file: Path) -> dict[str, Tensor]:
    try:
        record_sizes = _audit(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: object = torch.load(file, map_location="cpu", weights_only=True)
    except _ERRORS_OF_TORCH as error:
        raise unreadable(file, error, "a torch archive of tensors") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise unexpected(file, "the content", type(loaded).__name__, "tensors by name")
    arrays = cast("dict[str, Tensor]", loaded)
    for name, array in arrays.items():
        size = array.untyped_storage().nbytes()
        if size not in record_sizes:
            raise unexpected(
                file, name, f"{size} bytes in memory", "the bytes of a record of the file"
            )
    return {name: array.detach() for name, array in arrays.items()}


def _audit(file: Path) -> set[int]:
    """The sizes of the archive's records.

    Refused unless its checksums hold and its pickle calls nothing but what rebuilds tensors.
    """
    with zipfile.ZipFile(file) as archive:
        check_unpacked(archive, file)
        if damaged := archive.testzip():
            raise unexpected(file, damaged, "damaged", "content that matches its checksum")
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise unexpected(file, "the archive", f"{len(pickles)} pickles", "exactly one data.pkl")
        if (size := archive.getinfo(pickles[0]).file_size) > _LARGEST_PICKLE_BYTES:
            raise unexpected(file, "data.pkl", f"{size} bytes", f"at most {_LARGEST_PICKLE_BYTES}")
        for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if opcode.name in _CALLS and argument not in _REBUILDS:
                raise BadFile(
                    f"{file}: its pickle calls {argument or opcode.name}; "
                    "expected tensors and nothing else. It was not opened."
                )
        return {info.file_size for info in archive.infolist()}
