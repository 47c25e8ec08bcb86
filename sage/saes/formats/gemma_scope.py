"""Gemma Scope: one params.npz for each SAE, whose place in the tree says layer, width and sparsity.

Lieberum et al. 2024, https://arxiv.org/abs/2408.05147; layer_12/width_16k/average_l0_82/params.npz.
JumpReLU on raw residuals after a layer, b_dec not subtracted, not trained on BOS. An npz is a zip
of arrays; it may also hold pickles, which are never opened.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sage.errors import BadFile, SageError, Unsupported
from sage.nodes import Node
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.formats.reading import Arrays, Described, bad, folder_of, unreadable, whole
from sage.saes.sae import SAE, Normalisation, Stated

WEIGHTS = "params.npz"

_MODEL = re.compile(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)")


def recognises(path: Path) -> bool:
    """Whether there is a params.npz."""
    return (folder_of(path, [WEIGHTS]) / WEIGHTS).is_file()


def describe(path: Path) -> Described:
    """Hook, width and stated sparsity, from the path and the headers in the npz."""
    folder = folder_of(path, [WEIGHTS])
    shapes = _read(folder / WEIGHTS, headers_only=True)
    return Described(_hook(folder), _widths(shapes, folder / WEIGHTS)[1], _stated(folder))


def load(path: Path) -> SAE:
    """The SAE in a params.npz, or in the folder that holds one."""
    folder = folder_of(path, [WEIGHTS])
    file = folder / WEIGHTS
    hook = _hook(folder)
    values = _read(file)
    d_model, width = _widths(values, file)
    arrays = Arrays(file, {name: torch.from_numpy(value) for name, value in values.items()})
    architecture = JumpReLU(
        arrays.take("W_enc", [d_model, width]),
        arrays.take("b_enc", [width]),
        arrays.take("threshold", [width]),
    )
    W_dec, b_dec = arrays.take("W_dec", [width, d_model]), arrays.take("b_dec", [d_model])
    arrays.close()
    return SAE(
        id="/".join(folder.parts[-3:]),
        architecture=architecture,
        W_dec=W_dec,
        b_dec=b_dec,
        hook=hook,
        reads_bos=False,
        stated=_stated(folder),
        source=str(file),
    )


def save(sae: SAE, path: Path) -> None:
    """Write params.npz into `path`, a folder whose name says the layer
    (layer_12/width_16k/average_l0_82)."""
    plain = sae.normalisation == Normalisation() and not (
        sae.centred or sae.subtract_b_dec or sae.reads_bos
    )
    if not isinstance(sae.architecture, JumpReLU) or not plain:
        raise Unsupported(
            f"SAE '{sae.id}' ({sae.architecture.name}) cannot be a Gemma Scope file: these are JumpReLU on raw activations, b_dec not "
            "subtracted, no BOS. Save it in SAELens format."
        )
    folder = folder_of(path, [WEIGHTS])
    if (named := _hook(folder)) != sae.hook:
        raise SageError(
            f"The folder {folder} says {named}, but SAE '{sae.id}' reads {sae.hook}. Name it layer_{sae.hook.layer}/..."
        )
    tensors = {**sae.architecture.tensors(), "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    arrays: dict[str, Any] = {
        name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()
    }
    with whole(folder / WEIGHTS) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)


def _hook(folder: Path) -> Node:
    if found := _MODEL.search(str(folder)):
        if found[3] not in ("res", "mlp"):
            raise Unsupported(
                f"{folder}: a Gemma Scope '{found[3]}' SAE. Only those of the residual stream ('res') can be judged."
            )
        kind = "resid_post" if found[3] == "res" else "mlp_out"
    else:
        kind = "resid_post"
    if any(part == "embedding" for part in folder.parts):
        raise Unsupported(
            f"{folder}: an SAE of the token embeddings. Only those of the residual stream, layer_N, can be judged."
        )
    layers = [
        int(named[1]) for part in folder.parts if (named := re.fullmatch(r"layer_(\d{1,4})", part))
    ]
    if not layers:
        raise BadFile(
            f"{folder / WEIGHTS}: no folder above it says the layer; expected a path such as layer_12/width_16k/average_l0_82."
        )
    return Node(kind, layers[-1])


def _stated(folder: Path) -> Stated:
    sparsities = [
        float(named[1])
        for part in folder.parts
        if (named := re.fullmatch(r"average_l0_(\d{1,6})", part))
    ]
    model = _MODEL.search(str(folder))
    name = f"gemma-2-{model[1]}{'-it' if model[2] == 'it' else ''}" if model else None
    return Stated(l0=sparsities[-1] if sparsities else None, model=name)


def _widths(arrays: dict[str, Any], file: Path) -> tuple[int, int]:
    encoder = arrays.get("W_enc")
    if encoder is None or len(encoder.shape) != 2 or 0 in encoder.shape:
        found = "missing" if encoder is None else f"of shape {list(encoder.shape)}"
        raise bad(file, "W_enc", found, "an array [d_model, latents]")
    return int(encoder.shape[0]), int(encoder.shape[1])


class _Header:
    """The shape of an array whose values were not read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


def _read(file: Path, *, headers_only: bool = False) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            return {
                _named(info.filename): _member(archive, info, file, headers_only=headers_only)
                for info in archive.infolist()
                if not info.is_dir()
            }
    except (
        OSError, ValueError, EOFError, KeyError, IndexError, TypeError, RuntimeError, MemoryError, OverflowError, SyntaxError,
        struct.error, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise unreadable(file, error, "a zip of plain numeric arrays (npz)") from error


def _named(member: str) -> str:
    name = member.removesuffix(".npy")
    return "W_" + name[2:] if name.startswith("w_") else name


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path, *, headers_only: bool
) -> Any:
    """One array, once its header is known to promise exactly the bytes that follow it: a false
    shape must not claim the memory."""
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = header(stream)
        promised = stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.kind != "f" or dtype.hasobject:
            raise bad(file, _named(info.filename), f"of type {dtype}", "a floating type")
        if any(size < 0 for size in shape) or promised != info.file_size:
            raise bad(
                file,
                _named(info.filename),
                f"of shape {list(shape)} in {info.file_size} bytes",
                f"{promised} bytes",
            )
        if headers_only:
            return _Header(shape)
    with archive.open(info) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        return np.ascontiguousarray(
            array, dtype=np.float64 if array.dtype.itemsize == 8 else np.float32
        )
