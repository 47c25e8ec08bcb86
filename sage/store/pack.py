"""Packing: sage's own nouns as JSON data and arrays, and back.

Named tuples and dataclasses are packed field by field under their import path. Nothing else is made
on the way back, so that no file can run code.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sage.errors import BadFile
from sage.nodes import Node, parse_node

_PACKAGE = "sage"


class Packed(NamedTuple):
    """A value as JSON data, which names the arrays it needs."""

    data: Any
    arrays: dict[str, np.ndarray]


def pack(value: object) -> Packed:
    """The value as JSON data and arrays.

    It may hold None, numbers, strings, tensors, arrays, nodes, tuples, lists, mappings, and sage's
    data types; TypeError for anything else. A tensor that occurs twice is packed once.
    """
    packing = _Packing()
    return Packed(packing.describe(value), packing.arrays)


def unpack(packed: Packed) -> Any:
    """The value that was packed, every tensor in memory of its own on the device it was on.

    Raises BadFile for what `pack` does not make.
    """
    return _Unpacking(packed.arrays).make(packed.data)


def import_path(kind: type) -> str:
    """`module:Class`."""
    return f"{kind.__module__}:{kind.__qualname__}"


class _Packing:
    """Values on their way in: their arrays so far, each under the number in which it came."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        # Each beside its name, so that no other takes its identity while it is needed.
        self._added: dict[int, tuple[object, str]] = {}

    def describe(self, value: Any) -> Any:
        """The value as JSON data."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._add(value), "device": str(value.device)}
        if isinstance(value, np.ndarray):
            return {"array": self._add(value)}
        if isinstance(value, Node):
            return {"node": str(value)}
        if isinstance(value, Mapping):
            pairs = [[self.describe(key), self.describe(item)] for key, item in value.items()]
            return {"pairs": pairs}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.describe(item) for item in value]}
        if not _is_noun(type(value)):
            raise TypeError(f"{import_path(type(value))} is not one of sage's data types")
        fields = [self.describe(item) for item in _fields(value)]
        return {"of": import_path(type(value)), "fields": fields}

    def _add(self, values: Tensor | np.ndarray) -> str:
        """The name of the array with these values."""
        if id(values) not in self._added:
            name = str(len(self._added))
            array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
            self.arrays[name] = np.asarray(array, order="C")
            self._added[id(values)] = values, name
        return self._added[id(values)][1]


class _Unpacking:
    """Values on their way out: the arrays they are made of, and the tensors made so far."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._tensors: dict[str, Tensor] = {}

    def make(self, data: Any) -> Any:
        """The value that JSON data describes."""
        match data:
            case {"tensor": name, "device": device}:
                return self._tensor(name, device)
            case {"array": name}:
                return self._arrays[name].copy()
            case {"node": text}:
                return parse_node(text)
            case {"pairs": pairs}:
                return {self.make(key): self.make(item) for key, item in pairs}
            case {"list": items}:
                return [self.make(item) for item in items]
            case {"tuple": items}:
                return tuple(self.make(item) for item in items)
            case {"of": path, "fields": fields}:
                return _noun(path)(*(self.make(item) for item in fields))
            case _:
                return data

    def _tensor(self, name: str, device: str) -> Tensor:
        if name not in self._tensors:
            values = torch.from_numpy(self._arrays[name])
            self._tensors[name] = values.to(device, copy=True)
        return self._tensors[name]


def _fields(noun: Any) -> list[object]:
    """What a noun is made of, in order."""
    if isinstance(noun, tuple):
        return list(noun)
    return [getattr(noun, field.name) for field in dataclasses.fields(noun)]


def _noun(path: str) -> type:
    """The data type of sage at that import path; BadFile where there is none."""
    module, _, name = path.partition(":")
    kind = None
    if module.split(".")[0] == _PACKAGE:
        with suppress(ModuleNotFoundError):
            kind = getattr(importlib.import_module(module), name, None)
    if not (isinstance(kind, type) and _is_noun(kind)):
        raise BadFile(f"'{path}' is not one of sage's data types.")
    return kind


def _is_noun(kind: type) -> bool:
    """Whether it is a named tuple or dataclass of sage, made of its fields in order."""
    of_fields = dataclasses.is_dataclass(kind) and all(
        field.init and not field.kw_only for field in dataclasses.fields(kind)
    )
    is_named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return kind.__module__.split(".")[0] == _PACKAGE and (of_fields or is_named_tuple)
