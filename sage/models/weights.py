"""The files of a model folder that decide what it computes, and whether its weights are whole."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Iterable
from math import prod
from pathlib import Path
from typing import Any, cast

from sage.errors import BadFile
from sage.files import file_digest

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json")
_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
_LARGEST_HEADER = 100_000_000


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers loads from a folder.

    That is `model.safetensors` where there is one, else the shards that the index names; BadFile
    where there are none.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        return _shards(folder)
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    hint = f" It has {pickled[0]}, which is pickled: convert it to safetensors." if pickled else ""
    raise BadFile(
        f"{folder} has no {SINGLE}.{hint} A model folder has config.json, {SINGLE} and "
        "tokenizer.json."
    )


def revision(folder: Path, weights: Iterable[Path], vocabulary: Collection[str]) -> str:
    """One sha256 of the bytes of all files that decide what a model computes.

    These are config.json, the weight files that are loaded, and the tokenizer's: those every
    tokenizer may have, and those of its own (`vocabulary` names them). How text is generated
    (generation_config.json) and what else lies in the folder decides nothing here.
    """
    names = {"config.json", *_TOKENIZER_FILES, *vocabulary}
    names |= {path.name for path in folder.glob("tokenizer*.json")}
    paths = {*weights, *(folder / name for name in names)}
    present = [path for path in sorted(paths) if path.is_file()]
    lines = [f"{path.name} {file_digest(path)}\n" for path in present]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_weights(path: Path) -> None:
    """BadFile for a file that is truncated, has a damaged header, or holds NaN or infinite numbers;
    names the tensor."""
    header, start = _header(path)
    size = path.stat().st_size
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            begin, end = entry["data_offsets"]
            expected, given = prod(entry["shape"]) * _BYTES[entry["dtype"]], end - begin
        except (KeyError, TypeError, ValueError) as error:
            raise BadFile(
                f"{path}: the header's entry '{name}' is damaged ({error!r}). Fetch the file again."
            ) from error
        if given != expected:
            raise BadFile(
                f"{path}: '{name}' has {given} bytes; its shape {entry['shape']} needs {expected}. "
                "Fetch the file again."
            )
        if start + end > size:
            raise BadFile(
                f"{path} is truncated: '{name}' ends at byte {start + end}, the file at {size}. "
                "Fetch the file again."
            )
    _check_finite(path)


def _shards(folder: Path) -> list[Path]:
    """The files that the index names."""
    index = folder / INDEX
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        shards = [folder / name for name in names]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadFile(f"{index} is damaged ({error}). Fetch the model again.") from error
    if not shards:
        raise BadFile(f"{index} names no weight files. Fetch the model again.")
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise BadFile(
            f"{folder} lacks {len(missing)} of {len(shards)} weight files, the first {missing[0]}. "
            "Fetch the model again."
        )
    return shards


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and the byte at which the tensors begin."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
            raise BadFile(
                f"{path} is no safetensors file: its header would be {length} bytes of {size}. "
                "Fetch the file again."
            )
        try:
            header = json.loads(file.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BadFile(
                f"{path}: the header is damaged ({error}). Fetch the file again."
            ) from error
    if not isinstance(header, dict) or not header:
        raise BadFile(f"{path}: the header names no tensors. Fetch the file again.")
    return cast("dict[str, Any]", header), 8 + length


def _check_finite(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise BadFile(
                        f"{path}: '{name}' holds NaN or infinite numbers. Fetch the file again."
                    )
    except SafetensorError as error:
        raise BadFile(f"{path} is damaged ({error}). Fetch the file again.") from error
