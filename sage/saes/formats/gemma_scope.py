"""Gemma Scope: one params.npz for each SAE, whose place in the tree says layer, width and sparsity.

Lieberum et al. 2024, https://arxiv.org/abs/2408.05147; layer_12/width_16k/average_l0_82/params.npz.
JumpReLU on raw residuals after a layer, b_dec not subtracted, not trained on BOS. An npz is a zip
of arrays; it may also hold pickles, which are never opened.
"""

from __future__ import annotations

import re
import struct
import tokenize
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sage.errors import BadFile, SageError, Unsupported
from sage.files import write_atomically
from sage.nodes import Node
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.formats.format import Description
from sage.saes.sae import SAE, Normalisation, Stated
from sage.saes.sae_files import Arrays, check_unpacked, folder_of, unexpected, unreadable

WEIGHTS = "params.npz"
TITLE, FILES, LOADER = "Gemma Scope", (WEIGHTS,), "gemma_2"

_RELEASE = re.compile(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)")
_ERRORS_OF_NUMPY = (
    OSError, ValueError, EOFError, KeyError, IndexError, TypeError, RuntimeError, MemoryError,
    OverflowError, SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def recognises(path: Path) -> bool:
    """Whether there is a params.npz."""
    return (folder_of(path, FILES) / WEIGHTS).is_file()


def describe(path: Path) -> Description:
    """Hook, width and stated sparsity, from the path and the headers in the npz."""
    folder = folder_of(path, FILES)
    shapes = _read(folder / WEIGHTS, headers_only=True)
    return Description(_hook(folder), _widths(shapes, folder / WEIGHTS)[1], _stated(folder))


def load(path: Path) -> SAE:
    """The SAE in a params.npz, or in the folder that holds one."""
    folder = folder_of(path, FILES)
    file = folder / WEIGHTS
    hook = _hook(folder)
    values = _read(file)
    d_model, width = _widths(values, file)
    arrays = Arrays(file, {name: torch.from_numpy(value) for name, value in values.items()})
    encoder = JumpReLU(
        arrays.take("W_enc", [d_model, width]),
        arrays.take("b_enc", [width]),
        arrays.take("threshold", [width]),
    )
    W_dec, b_dec = arrays.take("W_dec", [width, d_model]), arrays.take("b_dec", [d_model])
    arrays.close()
    return SAE(
        id="/".join(folder.parts[-3:]),
        encoder=encoder,
        W_dec=W_dec,
        b_dec=b_dec,
        hook=hook,
        reads_bos=False,
        stated=_stated(folder),
        source=str(file),
    )


def save(sae: SAE, path: Path) -> None:
    """Write params.npz into `path`, a folder such as layer_12/width_16k/average_l0_82.

    Its name says the layer, which must be that of the SAE.
    """
    raw = sae.normalisation == Normalisation() and not sae.centred
    if not isinstance(sae.encoder, JumpReLU) or not raw or sae.subtract_b_dec or sae.reads_bos:
        raise Unsupported(
            f"SAE '{sae.id}' ({sae.encoder.name}) cannot be a Gemma Scope file: these are JumpReLU "
            "on raw activations, b_dec not subtracted, no BOS. Save it in SAELens format."
        )
    folder = folder_of(path, FILES)
    if (named := _hook(folder)) != sae.hook:
        raise SageError(
            f"The folder {folder} says {named}, but SAE '{sae.id}' reads {sae.hook}. "
            f"Name it layer_{sae.hook.layer}/..."
        )
    tensors = {**sae.encoder.tensors(), "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    arrays: dict[str, Any] = {
        name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()
    }
    content = BytesIO()
    np.savez(content, **arrays)
    write_atomically(folder / WEIGHTS, content.getvalue())


def _hook(folder: Path) -> Node:
    release = _RELEASE.search(str(folder))
    site = release[3] if release else "res"
    if site not in ("res", "mlp"):
        raise Unsupported(
            f"{folder}: a Gemma Scope '{site}' SAE. "
            "Only those of the residual stream ('res') can be judged."
        )
    if "embedding" in folder.parts:
        raise Unsupported(
            f"{folder}: an SAE of the token embeddings. "
            "Only those of the residual stream, layer_N, can be judged."
        )
    layer = _number_after("layer_", folder, digits=4)
    if layer is None:
        raise BadFile(
            f"{folder / WEIGHTS}: no folder above it says the layer; "
            "expected a path such as layer_12/width_16k/average_l0_82."
        )
    return Node("resid_post" if site == "res" else "mlp_out", layer)


def _stated(folder: Path) -> Stated:
    l0 = _number_after("average_l0_", folder, digits=6)
    release = _RELEASE.search(str(folder))
    model = f"gemma-2-{release[1]}{'-it' if release[2] == 'it' else ''}" if release else None
    return Stated(l0=None if l0 is None else float(l0), model=model)


def _number_after(prefix: str, folder: Path, *, digits: int) -> int | None:
    """The number in the innermost folder of that name, such as layer_12, or None."""
    for part in reversed(folder.parts):
        if match := re.fullmatch(prefix + rf"(\d{{1,{digits}}})", part):
            return int(match[1])
    return None


def _widths(arrays: dict[str, Any], file: Path) -> tuple[int, int]:
    """The sizes d_model and latents, as the encoder has them."""
    encoder = arrays.get("W_enc")
    if encoder is None or len(encoder.shape) != 2 or 0 in encoder.shape:
        shape = "missing" if encoder is None else f"of shape {list(encoder.shape)}"
        raise unexpected(file, "W_enc", shape, "an array [d_model, latents]")
    return int(encoder.shape[0]), int(encoder.shape[1])


class _Header:
    """The shape of an array whose values were not read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


def _read(file: Path, *, headers_only: bool = False) -> dict[str, Any]:
    """The arrays by our names, or their headers."""
    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            check_unpacked(archive, file)
            for info in archive.infolist():
                if not info.is_dir():
                    array = _member(archive, info, file, headers_only=headers_only)
                    arrays[_named(info.filename)] = array
    except _ERRORS_OF_NUMPY as error:
        raise unreadable(file, error, "a zip of plain numeric arrays (npz)") from error
    return arrays


def _named(member: str) -> str:
    name = member.removesuffix(".npy")
    return "W_" + name[2:] if name.startswith("w_") else name


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path, *, headers_only: bool
) -> Any:
    """One array, once its header is known to promise exactly the bytes that follow it.

    A false shape must not claim the memory.
    """
    name = _named(info.filename)
    with archive.open(info) as stream:
        shape, dtype = _read_header(stream)
        promised = stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.kind != "f" or dtype.hasobject:
            raise unexpected(file, name, f"of type {dtype}", "a floating type")
        if any(size < 0 for size in shape) or promised != info.file_size:
            size = f"of shape {list(shape)} in {info.file_size} bytes"
            raise unexpected(file, name, size, f"{promised} bytes")
        if headers_only:
            return _Header(shape)
    with archive.open(info) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        precision = np.float64 if array.dtype.itemsize == 8 else np.float32
        return np.ascontiguousarray(array, dtype=precision)


def _read_header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array that a stream begins with."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype
