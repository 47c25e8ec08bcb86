"""dictionary_learning: ae.pt and config.json, six classes of dictionary.

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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sage.errors import BadFile, Unsupported
from sage.nodes import Node
from sage.saes.architectures.batchtopk import BatchTopK
from sage.saes.architectures.gated import Gated
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.architectures.matryoshka import Matryoshka
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.saes.formats.reading import (
    Arrays,
    Described,
    Fields,
    bad,
    folder_of,
    read_json,
    unreadable,
    whole,
    write_json,
)
from sage.saes.sae import SAE, Architecture, Normalisation, Stated, scale_codes

CONFIG, WEIGHTS = "config.json", "ae.pt"

# A threshold below 0 marks one that training never set: every positive code counts.
_UNSET = -1.0

_REBUILDS = {
    *(
        f"torch {size}Storage"
        for size in (
            "Float",
            "Double",
            "Half",
            "BFloat16",
            "Long",
            "Int",
            "Short",
            "Char",
            "Byte",
            "Bool",
        )
    ),
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
}
_CALLS = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ", "NEWOBJ_EX"}


def recognises(path: Path) -> bool:
    """Whether there is an ae.pt."""
    return (folder_of(path, [CONFIG, WEIGHTS]) / WEIGHTS).is_file()


def describe(path: Path) -> Described:
    """Hook, width and k, from the configuration."""
    trainer, hook = _configuration(folder_of(path, [CONFIG, WEIGHTS]) / CONFIG)
    return Described(hook, trainer.whole("dict_size"), _stated(trainer))


def load(path: Path) -> SAE:
    """The SAE in a dictionary_learning folder."""
    folder = folder_of(path, [CONFIG, WEIGHTS])
    trainer, hook = _configuration(folder / CONFIG)
    kind = trainer.text("dict_class")
    if kind not in _CLASSES:
        raise Unsupported(
            f"{folder / CONFIG}: trainer.dict_class is '{kind}'. Those that can be read: {', '.join(_CLASSES)}."
        )
    arrays = Arrays(folder / WEIGHTS, _read(folder / WEIGHTS))
    d_model, width = trainer.whole("activation_dim"), trainer.whole("dict_size")
    read = _CLASSES[kind](arrays, trainer, d_model, width)
    arrays.close()
    return SAE(
        id="/".join(folder.parts[-2:]),
        architecture=read[0],
        W_dec=read[1],
        b_dec=read[2],
        hook=hook,
        subtract_b_dec=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
        reads_bos="gemma" in trainer.text("lm_name", "").lower(),
        stated=_stated(trainer),
        source=str(folder),
    )


def save(sae: SAE, path: Path) -> None:
    """Write ae.pt and config.json into the folder `path`."""
    kind, arrays = _written(sae)
    bos = "gemma" in (sae.stated.model or "").lower()
    if (
        sae.normalisation != Normalisation()
        or sae.centred
        or sae.reads_bos != bos
        or sae.hook.kind not in ("resid_pre", "resid_post")
    ):
        raise Unsupported(
            f"SAE '{sae.id}' cannot be a dictionary_learning folder: these read raw activations before or after a layer, with BOS for "
            "Gemma alone. Save it in SAELens format."
        )
    trainer = {
        "dict_class": kind,
        "activation_dim": sae.d_model,
        "dict_size": sae.width,
        "layer": sae.hook.layer,
        "lm_name": sae.stated.model or "",
        "submodule_name": f"{sae.hook.kind}_layer_{sae.hook.layer}",
        **({"k": int(arrays["k"])} if "k" in arrays else {}),
    }
    with whole(path / WEIGHTS) as part:
        torch.save(
            {name: array.detach().cpu().contiguous() for name, array in arrays.items()}, part
        )
    write_json(
        path / CONFIG, {"trainer": trainer, "buffer": {"d_submodule": sae.d_model, "io": "out"}}
    )


def _configuration(file: Path) -> tuple[Fields, Node]:
    config = read_json(file)
    trainer = config.child("trainer")
    layer, name = trainer.whole("layer", least=0), trainer.text("submodule_name", "")
    if config.child("buffer").text("io", "out") not in ("in", "out"):
        raise Unsupported(
            f"{file}: buffer.io says a transcoder. Only dictionaries that reconstruct what they read can be judged."
        )
    entering = config.child("buffer").text("io", "out") == "in" or "resid_pre" in name
    kind = (
        "mlp_out"
        if "mlp" in name
        else "attn_out"
        if "attn" in name or "attention" in name
        else "resid_pre"
        if entering
        else "resid_post"
    )
    return trainer, Node(kind, layer)


def _stated(trainer: Fields) -> Stated:
    return Stated(
        l0=trainer.maybe("k"), model=trainer.text("lm_name", "").rsplit("/", 1)[-1] or None
    )


_Read = tuple[Architecture, Tensor, Tensor]


def _auto_encoder(arrays: Arrays, _trainer: Fields, d: int, n: int) -> _Read:
    W_enc, b_enc = _linear(arrays, d, n)
    return (
        ReLU(W_enc, b_enc),
        arrays.take("decoder.weight", [d, n]).T.contiguous(),
        arrays.take("bias", [d]),
    )


def _auto_encoder_new(arrays: Arrays, _trainer: Fields, d: int, n: int) -> _Read:
    W_enc, b_enc = _linear(arrays, d, n)
    return (
        ReLU(W_enc, b_enc),
        arrays.take("decoder.weight", [d, n]).T.contiguous(),
        arrays.take("decoder.bias", [d]),
    )


def _gated(arrays: Arrays, _trainer: Fields, d: int, n: int) -> _Read:
    W_enc = arrays.take("encoder.weight", [n, d]).T.contiguous()
    encoder = Gated(
        W_enc,
        arrays.take("gate_bias", [n]),
        arrays.take_exponent("r_mag", [n]),
        arrays.take("mag_bias", [n]),
    )
    return (
        encoder,
        arrays.take("decoder.weight", [d, n]).T.contiguous(),
        arrays.take("decoder_bias", [d]),
    )


def _jumprelu(arrays: Arrays, _trainer: Fields, d: int, n: int) -> _Read:
    encoder = JumpReLU(
        arrays.take("W_enc", [d, n]), arrays.take("b_enc", [n]), arrays.take("threshold", [n])
    )
    return encoder, arrays.take("W_dec", [n, d]), arrays.take("b_dec", [d])


def _topk(arrays: Arrays, trainer: Fields, d: int, n: int) -> _Read:
    W_enc, b_enc = _linear(arrays, d, n)
    if "threshold" in arrays.values:
        arrays.take("threshold", [])
    encoder = TopK(W_enc, b_enc, b_enc.new_ones(n), _k(arrays, trainer, n))
    return encoder, arrays.take("decoder.weight", [d, n]).T.contiguous(), arrays.take("b_dec", [d])


def _batch_topk(arrays: Arrays, trainer: Fields, d: int, n: int) -> _Read:
    W_enc, b_enc = _linear(arrays, d, n)
    encoder = BatchTopK(W_enc, b_enc, _threshold(arrays, n), float(_k(arrays, trainer, n)))
    return encoder, arrays.take("decoder.weight", [d, n]).T.contiguous(), arrays.take("b_dec", [d])


def _matryoshka(arrays: Arrays, trainer: Fields, d: int, n: int) -> _Read:
    groups = arrays.values.pop("group_sizes", torch.zeros(0))
    whole_numbers = (
        groups.ndim == 1
        and groups.dtype == torch.int64
        and bool(((groups > 0) & (groups <= n)).all())
    )
    sizes = tuple(int(size) for size in groups.cumsum(0)) if whole_numbers else ()
    if not sizes or sizes[-1] != n:
        raise bad(
            arrays.file, "group_sizes", groups.tolist(), f"positive whole numbers that sum to {n}"
        )
    W_enc, b_enc = arrays.take("W_enc", [d, n]), arrays.take("b_enc", [n])
    encoder = Matryoshka(W_enc, b_enc, _threshold(arrays, n), sizes, float(_k(arrays, trainer, n)))
    return encoder, arrays.take("W_dec", [n, d]), arrays.take("b_dec", [d])


_CLASSES: Mapping[str, Callable[[Arrays, Fields, int, int], _Read]] = {
    "AutoEncoder": _auto_encoder,
    "AutoEncoderNew": _auto_encoder_new,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jumprelu,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
}


def _linear(arrays: Arrays, d: int, n: int) -> tuple[Tensor, Tensor]:
    return arrays.take("encoder.weight", [n, d]).T.contiguous(), arrays.take("encoder.bias", [n])


def _k(arrays: Arrays, trainer: Fields, n: int) -> int:
    k = trainer.whole("k")
    stored = arrays.values.pop("k", torch.tensor(k))
    if stored.numel() != 1 or stored.dtype.is_floating_point or int(stored) != k:
        raise bad(arrays.file, "k", stored.tolist(), f"{k}, as the configuration says")
    if k > n:
        raise bad(arrays.file, "k", k, f"at most the {n} latents")
    return k


def _threshold(arrays: Arrays, n: int) -> Tensor:
    return arrays.take("threshold", []).clamp(min=0).expand(n).contiguous()


def _written(sae: SAE) -> tuple[str, dict[str, Tensor]]:
    encoder = sae.architecture
    linear = {"encoder.weight": encoder.W_enc.T, "decoder.weight": sae.W_dec.T}
    plain = {"W_enc": encoder.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    match encoder:
        case ReLU() if sae.subtract_b_dec:
            return "AutoEncoder", {**linear, "encoder.bias": encoder.b_enc, "bias": sae.b_dec}
        case ReLU():
            return "AutoEncoderNew", {
                **linear,
                "encoder.bias": encoder.b_enc,
                "decoder.bias": sae.b_dec,
            }
        case Gated() if sae.subtract_b_dec:
            gate = {"gate_bias": encoder.b_gate, "r_mag": encoder.r_mag, "mag_bias": encoder.b_mag}
            return "GatedAutoEncoder", {**linear, **gate, "decoder_bias": sae.b_dec}
        case JumpReLU() if not sae.subtract_b_dec:
            return "JumpReluAutoEncoder", {
                **plain,
                "b_enc": encoder.b_enc,
                "threshold": encoder.threshold,
            }
        case TopK() if sae.subtract_b_dec and (encoder.priority != 1).any():
            return _written(scale_codes(sae, encoder.priority))
        case TopK() if sae.subtract_b_dec:
            return "AutoEncoderTopK", {
                **linear,
                "encoder.bias": encoder.b_enc,
                "b_dec": sae.b_dec,
                "k": torch.tensor(encoder.k, dtype=torch.int),
                "threshold": torch.tensor(_UNSET),
            }
        case BatchTopK() | Matryoshka() if (
            sae.subtract_b_dec
            and _whole_k(encoder.k)
            and (encoder.threshold == encoder.threshold[0]).all()
        ):
            common = {
                "b_enc": encoder.b_enc,
                "k": torch.tensor(_whole_k(encoder.k), dtype=torch.int),
                "threshold": encoder.threshold[0].clone(),
            }
            if isinstance(encoder, Matryoshka):
                groups = torch.tensor(encoder.sizes).diff(prepend=torch.zeros(1, dtype=torch.int64))
                return "MatryoshkaBatchTopKSAE", {**plain, **common, "group_sizes": groups}
            common["encoder.bias"] = common.pop("b_enc")
            return "BatchTopKSAE", {**linear, **common, "b_dec": sae.b_dec}
        case _:
            bias = "subtracted" if sae.subtract_b_dec else "not subtracted"
            raise Unsupported(
                f"SAE '{sae.id}' ({encoder.name}, b_dec {bias}) is of none of the classes of dictionary_learning "
                f"({', '.join(_CLASSES)}). Save it in SAELens format."
            )


def _whole_k(k: float | None) -> int | None:
    return int(k) if k is not None and k == int(k) else None


def _read(file: Path) -> dict[str, Tensor]:
    try:
        sizes = _audit(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: object = torch.load(file, map_location="cpu", weights_only=True)
    except (
        OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, MemoryError, OverflowError,
        AssertionError, ImportError, struct.error, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise unreadable(file, error, "a torch archive of tensors") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise bad(file, "the content", type(loaded).__name__, "tensors by name")
    arrays = cast("dict[str, Tensor]", loaded)
    for name, array in arrays.items():
        if array.untyped_storage().nbytes() not in sizes:
            raise bad(
                file,
                name,
                f"{array.untyped_storage().nbytes()} bytes in memory",
                "the bytes of a record of the file",
            )
    return {name: array.detach() for name, array in arrays.items()}


def _audit(file: Path) -> set[int]:
    """The sizes of the archive's records, once its checksums hold and its pickle is known to call
    nothing but tensor rebuilding."""
    with zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():
            raise bad(file, damaged, "damaged", "content that matches its checksum")
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise bad(file, "the archive", f"{len(pickles)} pickles", "exactly one data.pkl")
        for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if opcode.name in _CALLS and argument not in _REBUILDS:
                raise BadFile(
                    f"{file}: its pickle calls {argument or opcode.name}; expected tensors and nothing else. It was not opened."
                )
        return {info.file_size for info in archive.infolist()}
