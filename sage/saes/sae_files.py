"""Files of SAEs, from strangers: what every format does before it believes one.

A released SAE is a few numbers in a configuration and four or five arrays. Each is checked for
presence, type, shape and finiteness, and each complaint names the file, the field, what was found
and what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sage.errors import BadFile
from sage.files import write_atomically

_LONGEST_SHOWN = 200


def unexpected(file: Path, what: str, found: object, expected: object) -> BadFile:
    """The error for a part of a file, such as a field, that is not what it must be."""
    shown = found if isinstance(found, str) else repr(found)
    if len(shown) >= _LONGEST_SHOWN:
        shown = shown[:_LONGEST_SHOWN] + "..."
    return BadFile(f"{file}: {what} is {shown}; expected {expected}.")


@dataclass(frozen=True)
class Fields:
    """The fields of a configuration file; a getter raises BadFile where a value's type is wrong.

    A field that is missing or null takes the default; without a default it is required. `prefix`
    says where in the file the fields stand ("metadata.").
    """

    file: Path
    values: Mapping[str, object]
    prefix: str = ""

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """An integer of at least `least`."""
        value = self._value(name, default, "a whole number")
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
            raise self._unexpected(name, value, f"a whole number from {least}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._value(name, default, "a number")
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise self._unexpected(name, value, "a finite number")

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(name, default, "true or false")
        if not isinstance(value, bool):
            raise self._unexpected(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(name, default, "a text")
        if not isinstance(value, str):
            raise self._unexpected(name, value, "a text")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers from 1."""
        value = self._value(name, None, "a list of whole numbers")
        if isinstance(value, list) and all(
            isinstance(item, int) and item is not True and 1 <= item < 2**31
            for item in cast("list[object]", value)
        ):
            return tuple(cast("list[int]", value))
        raise self._unexpected(name, value, "a list of whole numbers")

    def optional_number(self, name: str) -> float | None:
        """A finite number, or None where the field is missing."""
        return self.number(name) if self.values.get(name) is not None else None

    def child(self, name: str) -> Fields:
        """The fields of an object inside this one; none where it is missing."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._unexpected(name, value, "an object of fields")
        return Fields(self.file, cast("dict[str, object]", value or {}), f"{self.prefix}{name}.")

    def _value(self, name: str, default: object, expected: str) -> object:
        value = self.values.get(name)
        if value is None and default is None:
            raise self._unexpected(name, "missing", expected)
        return default if value is None else value

    def _unexpected(self, name: str, value: object, expected: str) -> BadFile:
        return unexpected(self.file, self.prefix + name, value, expected)


@dataclass(frozen=True)
class Arrays:
    """The arrays of a weight file, of any floating type, which `take` hands out once each."""

    file: Path
    values: dict[str, Tensor]

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """The array of that name, float32 and contiguous.

        BadFile where it is missing, shaped otherwise, or not finite.
        """
        if name not in self.values:
            names = ", ".join(sorted(self.values)) or "none"
            raise unexpected(
                self.file, name, f"missing; there are {names}", f"an array of shape {list(shape)}"
            )
        array = self.values.pop(name)
        if not array.dtype.is_floating_point:
            raise unexpected(self.file, name, f"of type {array.dtype}", "a floating type")
        if tuple(array.shape) != tuple(shape):
            raise unexpected(
                self.file,
                name,
                f"of shape {list(array.shape)}",
                f"{list(shape)}, as the configuration and the other arrays say",
            )
        return finite(array.detach().to(torch.float32, copy=True).contiguous(), self.file, name)

    def close(self) -> None:
        """BadFile where an array is left over.

        The file is then of another architecture than its configuration says.
        """
        if self.values:
            names = ", ".join(sorted(self.values))
            raise unexpected(
                self.file,
                "the set of arrays",
                f"larger than the architecture's by {names}",
                "no others",
            )


def finite(array: Tensor, file: Path, name: str) -> Tensor:
    """The array itself; BadFile where it holds a value that is not finite."""
    if not torch.isfinite(array).all():
        count = int((~torch.isfinite(array)).sum())
        raise unexpected(
            file, name, f"not finite in {count} of {array.numel()} values", "finite values"
        )
    return array


def read_json(file: Path) -> Fields:
    """The configuration in a JSON file whose top is an object."""
    try:
        value: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(
            f"{file}: not readable as JSON ({_first_line(error)}); "
            "expected the SAE's configuration."
        ) from error
    if not isinstance(value, dict):
        raise unexpected(file, "the top level", type(value).__name__, "an object of fields")
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
            f"{file}: not a whole safetensors file ({_first_line(error)}); "
            "expected the SAE's weights."
        ) from error


def folder_of(path: Path, names: Sequence[str]) -> Path:
    """The folder of an SAE, which may be given as itself or as one of the files in it."""
    return path.parent if path.name in names else path


def unreadable(file: Path, error: BaseException, expected: str) -> BadFile:
    """The error for a file that its own library could not read."""
    reason = f"{type(error).__name__}: {_first_line(error)}"
    return BadFile(f"{file}: not readable ({reason}); expected {expected}.")


def write_safetensors(file: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write a safetensors file whole or not at all."""
    from safetensors.torch import save

    on_cpu = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    write_atomically(file, save(on_cpu))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
