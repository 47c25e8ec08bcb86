"""Packing: sage's own nouns as a part, JSON data and arrays, and back.

Named tuples and dataclasses are packed field by field under their import path. Nothing else is made
on the way back, so that no file can run code.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sage.errors import BadFile
from sage.nodes import Node, parse_node
from sage.store.checkpoints import Part

_PACKAGE = "sage"


def pack(value: object) -> Part:
    """A value as a part. It may hold None, numbers, strings, tensors, arrays, nodes, tuples, lists,
    mappings, and sage's data types.

    Tensors that occur more than once are written once. TypeError for anything else.
    """
    arrays: dict[str, np.ndarray] = {}
    names: dict[int, str] = {}

    def array(tensor: Tensor | np.ndarray) -> str:
        if id(tensor) not in names:
            names[id(tensor)] = str(len(names))
            arrays[names[id(tensor)]] = (
                tensor.detach().cpu().contiguous().numpy() if isinstance(tensor, Tensor) else tensor
            )
        return names[id(tensor)]

    def packed(value: object) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            return {"tensor": array(value), "accelerated": value.device.type != "cpu"}
        if isinstance(value, np.ndarray):
            return {"array": array(value)}
        if isinstance(value, Node):
            return {"node": str(value)}
        if isinstance(value, Mapping):
            return {"pairs": [[packed(key), packed(own)] for key, own in value.items()]}
        if type(value) is list or type(value) is tuple:
            ones = cast("Sequence[object]", value)
            return {type(value).__name__: [packed(one) for one in ones]}
        return {"of": _path(value), "fields": [packed(own) for own in _fields(value)]}

    return Part(packed(value), arrays)


def unpack(part: Part, *, device: str = "cpu") -> Any:
    """The value of a part; tensors that were on an accelerator go to `device`. BadFile for what
    `pack` does not make."""
    tensors: dict[str, Tensor] = {}

    def tensor(name: str, *, accelerated: bool) -> Tensor:
        if name not in tensors:
            tensors[name] = torch.from_numpy(part.arrays[name]).to(device if accelerated else "cpu")
        return tensors[name]

    def unpacked(value: Any) -> Any:
        match value:
            case {"tensor": name, "accelerated": accelerated}:
                return tensor(name, accelerated=accelerated)
            case {"array": name}:
                return part.arrays[name]
            case {"node": text}:
                return parse_node(text)
            case {"pairs": pairs}:
                return {unpacked(key): unpacked(own) for key, own in pairs}
            case {"list": ones}:
                return [unpacked(one) for one in ones]
            case {"tuple": ones}:
                return tuple(unpacked(one) for one in ones)
            case {"of": path, "fields": fields}:
                return _noun(path)(*(unpacked(own) for own in fields))
            case _:
                return value

    return unpacked(part.data)


def _fields(value: Any) -> list[object]:
    """What a noun is made of, in order."""
    if isinstance(value, tuple):
        return list(value)
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _path(value: object) -> str:
    """`module:Class` of a noun of sage; TypeError for anything else."""
    kind = type(value)
    if not _is_noun(kind):
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not one of sage's data types")
    return f"{kind.__module__}:{kind.__qualname__}"


def _noun(path: str) -> type:
    module, _, name = path.partition(":")
    found = (
        getattr(importlib.import_module(module), name, None)
        if module.split(".")[0] == _PACKAGE
        else None
    )
    if not (isinstance(found, type) and _is_noun(found)):
        raise BadFile(f"'{path}' is not one of sage's data types.")
    return found


def _is_noun(kind: type) -> bool:
    """Whether it is a named tuple or dataclass of sage, made of its fields in order."""
    made_of_fields = dataclasses.is_dataclass(kind) and all(
        field.init and not field.kw_only for field in dataclasses.fields(kind)
    )
    return kind.__module__.split(".")[0] == _PACKAGE and (
        made_of_fields or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )
