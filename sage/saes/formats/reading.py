"""Files from strangers: what every format does before it believes one.

A released SAE is a few numbers in a configuration and four or five arrays. Each is checked for
presence, type, shape and finiteness, and each complaint names the file, the field, what was found
and what was expected.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from sage.errors import BadFile
from sage.nodes import Node
from sage.saes.sae import Stated


class Described(NamedTuple):
    """What a file says of its SAE before any weight is read."""

    hook: Node
    width: int
    stated: Stated


def bad(file: Path, field: str, found: object, expected: object) -> BadFile:
    """The error for a field that is not what it must be."""
    shown = found if isinstance(found, str) else repr(found)
    return BadFile(
        f"{file}: {field} is {shown if len(shown) < 200 else shown[:200] + '...'}; expected {expected}."
    )


@dataclass(frozen=True)
class Fields:
    """The fields of a configuration file; a getter returns the value, or raises BadFile where its
    type is wrong.

    A field that is missing or null takes the default; without a default it is required.
    """

    file: Path
    values: Mapping[str, object]
    prefix: str = ""

    def whole(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """An integer of at least `least`."""
        value = self._value(name, default, "a whole number")
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
            raise bad(self.file, self.prefix + name, value, f"a whole number from {least}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._value(name, default, "a number")
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
        ):
            raise bad(self.file, self.prefix + name, value, "a finite number")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(name, default, "true or false")
        if not isinstance(value, bool):
            raise bad(self.file, self.prefix + name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(name, default, "a text")
        if not isinstance(value, str):
            raise bad(self.file, self.prefix + name, value, "a text")
        return value

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers from 1."""
        value = self._value(name, None, "a list of whole numbers")
        if isinstance(value, list) and all(
            isinstance(item, int) and item is not True and 1 <= item < 2**31
            for item in cast("list[object]", value)
        ):
            return tuple(cast("list[int]", value))
        raise bad(self.file, self.prefix + name, value, "a list of whole numbers")

    def maybe(self, name: str) -> float | None:
        """A finite number, or None where the field is missing."""
        return self.number(name) if self.values.get(name) is not None else None

    def child(self, name: str) -> Fields:
        """The fields of an object inside this one; none where it is missing."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise bad(self.file, self.prefix + name, value, "an object of fields")
        return Fields(self.file, cast("dict[str, object]", value or {}), f"{self.prefix}{name}.")

    def _value(self, name: str, default: object, expected: str) -> object:
        value = self.values.get(name)
        if value is None and default is None:
            raise bad(self.file, self.prefix + name, "missing", expected)
        return default if value is None else value


@dataclass(frozen=True)
class Arrays:
    """The arrays of a weight file, of any floating type, which `take` hands out once each as
    float32."""

    file: Path
    values: dict[str, Tensor]

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """The array of that name, float32, contiguous; BadFile where it is missing, shaped
        otherwise, or not finite."""
        if name not in self.values:
            raise bad(
                self.file,
                name,
                f"missing; there are {', '.join(sorted(self.values)) or 'none'}",
                f"an array of shape {list(shape)}",
            )
        array = self.values.pop(name)
        if not array.dtype.is_floating_point:
            raise bad(self.file, name, f"of type {array.dtype}", "a floating type")
        if tuple(array.shape) != tuple(shape):
            raise bad(
                self.file,
                name,
                f"of shape {list(array.shape)}",
                f"{list(shape)}, as the configuration and the other arrays say",
            )
        return finite(array.detach().to(torch.float32, copy=True).contiguous(), self.file, name)

    def take_exponent(self, name: str, shape: Sequence[int]) -> Tensor:
        """The array of that name, whose exponential is finite too."""
        array = self.take(name, shape)
        finite(array.exp(), self.file, f"exp({name})")
        return array

    def close(self) -> None:
        """BadFile where an array is left over: the file is then of another architecture than its
        configuration says."""
        if self.values:
            raise bad(
                self.file,
                "the set of arrays",
                f"larger than the architecture's by {', '.join(sorted(self.values))}",
                "no others",
            )


def finite(array: Tensor, file: Path, name: str) -> Tensor:
    """The array itself; BadFile where it holds a value that is not finite."""
    if not torch.isfinite(array).all():
        count = int((~torch.isfinite(array)).sum())
        raise bad(file, name, f"not finite in {count} of {array.numel()} values", "finite values")
    return array


def read_json(file: Path) -> Fields:
    """The configuration in a JSON file whose top is an object."""
    try:
        value: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(
            f"{file}: not readable as JSON ({_first_line(error)}); expected the SAE's configuration."
        ) from error
    if not isinstance(value, dict):
        raise bad(file, "the top level", type(value).__name__, "an object of fields")
    return Fields(file, cast("dict[str, object]", value))


def read_safetensors(file: Path) -> Arrays:
    """All arrays of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            return Arrays(file, {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (
        SafetensorError,
        OSError,
        ValueError,
        RuntimeError,
        MemoryError,
        AttributeError,
        KeyError,
    ) as error:
        raise BadFile(
            f"{file}: not a whole safetensors file ({_first_line(error)}); expected the SAE's weights."
        ) from error


def folder_of(path: Path, names: Sequence[str]) -> Path:
    """The folder of an SAE, which may be given as itself or as one of the files in it."""
    return path.parent if path.name in names else path


def unreadable(file: Path, error: BaseException, expected: str) -> BadFile:
    """The error for a file that its own library could not read."""
    return BadFile(
        f"{file}: not readable ({type(error).__name__}: {_first_line(error)}); expected {expected}."
    )


def write_json(file: Path, values: Mapping[str, object]) -> None:
    """Write a JSON file whole or not at all."""
    with whole(file) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def write_safetensors(file: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write a safetensors file whole or not at all."""
    from safetensors.torch import save_file

    with whole(file) as part:
        save_file({name: array.detach().cpu().contiguous() for name, array in arrays.items()}, part)


@contextmanager
def whole(file: Path) -> Generator[Path]:
    """A temporary file that takes the name of `file` when the block ends well, and disappears when
    it does not."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        yield part
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
